/**
 * The log's Merkle tree: leaf n - 1 is the event of seq n (`log/canonical.ts`). It hashes events after their commit,
 * 4,096 in one transaction, and no reply waits for it. The tree is never ahead of the log, unless an earlier log was
 * put back.
 *
 * A checkpoint is signed only after a proof, from the tiles as they are on the disk, that the tree continues the last
 * signed checkpoint. The new checkpoint is in `tree.sqlite`, synced, before anybody gets it. A start hashes the last
 * 256 events again, the hashes of the right edge from the full tiles below them, and the root of the last checkpoint.
 * So it notices a log that has replaced another, because its last events differ. If one of these hashes differs from
 * the stored one, the tree stays as it is, for evidence, and signs nothing (see `data/open_tree.ts`).
 */

import { CanonicalWriter, type RowBytes } from "../log/canonical.ts";
import { proofText } from "../log/tlog_proof.ts";
import type { WitnessKey } from "../tlog/cosignature.ts";
import {
  consistencyProof,
  fullRoot,
  HASH_BYTES,
  inclusionProof,
  leafHash,
  provesConsistency,
  provesInclusion,
  type Subtrees,
  treeRoot,
} from "../tlog/merkle.ts";
import {
  type Checkpoint,
  checkpointText,
  notedCheckpoint,
  openNote,
  readCheckpoint,
  readVkey,
  type Signer,
  signNote,
  type Verifier,
} from "../tlog/note.ts";
import { Edge, subtreesOf, TILE_BYTES, TILE_HASHES, type TileName } from "../tlog/tiles.ts";
import { Cosigned } from "./cosignatures.ts";
import type {
  FormerSigner,
  KeptCheckpoint,
  LogRows,
  Submission,
  TileHashes,
  TreeIdentity,
  TreeStatus,
  TreeStore,
} from "./ports.ts";

/** Events that are hashed and written in one step. */
const CHUNK_EVENTS = 4096;
/** The largest event, in canonical bytes, for which a proof is made: proofs are built in memory. */
const PROVEN_BYTES_MAX = 256 * 1024 * 1024;

const CHANGED = "the tree's tiles have changed since they were written";

/** The reason why nothing is signed, or answered. */
type TreeRefusal = { readonly refused: string };
type Uncosigned = { readonly uncosigned: string };
type Archived = { readonly oldestSeq: number };

export interface LogTreeParts {
  readonly store: TreeStore;
  readonly log: LogRows;
  readonly signer: Signer;
  readonly nowUs: () => number;
  /**
   * The reason why the log's tree is missing, so that nothing is hashed or signed; null: it exists, or the log never
   * had one.
   */
  readonly missing: string | null;
  /** The newest signed checkpoint that is known outside of the tree's store; null if there is none. */
  readonly published: Checkpoint | null;
  /** Called with each signed checkpoint before anyone else gets it. */
  readonly publish: (note: string) => void;
  /** Witnesses whose cosignatures are kept. */
  readonly witnesses: readonly WitnessKey[];
  /** The tree signs nothing, and returns checkpoints that were signed before. */
  readonly readOnly?: true;
}

/**
 * The Merkle tree over the log: leaf n - 1 is the event of seq n. It follows the log in chunks, and signs checkpoints.
 * Signed checkpoints are kept, and the tree never signs one that contradicts them. If the log differs from the tree,
 * the tree stays as it is, as evidence, and signs nothing any more.
 */
export class LogTree {
  readonly #parts: LogTreeParts;
  readonly #canonical = new CanonicalWriter();
  readonly #subtrees: Subtrees;
  #full: TileHashes[] = [];
  #edge: Edge;
  #refusal: string | null;
  #signer: Signer;
  readonly #cosigned: Cosigned;
  /**
   * The size of the last recorded checkpoint; and below, how many of the later events in the tree are not CHECKPOINT
   * events.
   */
  #recorded = 0;
  #unrecorded = 0;

  constructor(parts: LogTreeParts) {
    const { store } = parts;
    this.#parts = parts;
    this.#signer = parts.signer;
    this.#cosigned = new Cosigned(store, parts.witnesses);
    this.#subtrees = subtreesOf((level, index) => this.#tile(level, index));
    if (parts.missing === null && parts.readOnly === undefined) this.#begin();
    this.#edge = this.#newEdge();
    this.#refusal = parts.missing ?? this.#contradiction();
    this.noteRecorded();
  }

  get size(): number {
    return this.#edge.size;
  }

  get refusal(): string | null {
    return this.#refusal;
  }

  /** The number of events in the tree, except CHECKPOINT events, that no recorded checkpoint includes. */
  get unrecorded(): number {
    return this.#unrecorded;
  }

  get status(): TreeStatus {
    const { size, refusal } = this;
    const { store, log } = this.#parts;
    const none = { log: log.id, possibleCpus: log.possibleCpus, origin: this.#signer.name, vkey: "" };
    const signedSize = store.lastCheckpoint()?.size ?? 0;
    return { ...(store.identity ?? none), size, lastSeq: this.lastSeq(), signedSize, refusal };
  }

  /** The ledger's life. */
  get life(): string {
    return this.#parts.log.life;
  }

  lastSeq(): number {
    return this.#parts.log.lastSeq();
  }

  /**
   * Hashes a chunk of new events. Returns whether there are more. Throws if the disk fails; nothing is changed then.
   */
  catchUp(): boolean {
    if (this.#refusal !== null) return false;
    const { log, store } = this.#parts;
    const before = this.size;
    const last = log.lastSeq();
    if (last < before) return this.#refuse(`the log ends at event ${last}, the tree has ${before}`);
    const until = Math.min(last, before + CHUNK_EVENTS);
    if (until === before) return false;
    try {
      for (const row of log.rows(before, until)) {
        if (row[0] !== this.size + 1) break;
        this.#edge.append((target, at) => this.#canonical.leafHash(row, target, at));
      }
      if (this.size > before) store.write([...this.#full, ...this.#edge.partial()]);
      this.#unrecorded += log.others(before, this.size);
      this.#full = [];
    } catch (error) {
      this.#full = [];
      this.#edge = this.#newEdge();
      throw error;
    }
    if (this.size < until) return this.#refuse(`event ${this.size + 1} is missing in the log`);
    return until < last;
  }

  /** A signed checkpoint of the present tree. If its size was signed before, that checkpoint is returned. */
  checkpoint(): KeptCheckpoint | TreeRefusal {
    const now = this.#head();
    if ("refused" in now) return now;
    const { store, nowUs, publish } = this.#parts;
    const kept = store.lastCheckpoint();
    if (kept?.size === now.size) return kept;
    const checkpoint = { ...now, note: signNote(checkpointText(now), this.#signer), timeUs: nowUs() };
    store.keep(checkpoint);
    publish(checkpoint.note);
    return checkpoint;
  }

  /** The newest signed checkpoint, if the tree continues it. A service that signs nothing uses this. */
  signed(): KeptCheckpoint | TreeRefusal | Uncosigned {
    const now = this.#head();
    if ("refused" in now) return now;
    return (
      this.#parts.store.lastCheckpoint() ?? { uncosigned: "no checkpoint was signed, and this service signs none" }
    );
  }

  /**
   * Lets another key sign, under the same name. A checkpoint of the present tree gets both signatures: it shows anyone
   * who knows only the former key that the new one continues these events. Returns the reason if the tree refuses,
   * otherwise null.
   */
  handOver(to: Signer): TreeRefusal | null {
    const now = this.#head();
    if ("refused" in now) return now;
    const { store, nowUs, publish } = this.#parts;
    const signer = { origin: to.name, vkey: to.vkey };
    if (store.lastCheckpoint()?.size === now.size) {
      store.changeSigner(signer, now.size);
    } else {
      const note = signNote(checkpointText(now), this.#signer, to);
      store.changeSigner(signer, now.size - 1, { ...now, note, timeUs: nowUs() });
      publish(note);
    }
    this.#signer = to;
    return null;
  }

  /** The head of the tree, if it continues the signed checkpoints. */
  #head(): Checkpoint | TreeRefusal {
    if (this.#refusal !== null) return { refused: this.#refusal };
    const kept = this.#parts.store.lastCheckpoint();
    const now = { origin: this.#signer.name, size: this.size, root: this.#edge.root() };
    if (kept !== null && kept.size > now.size) {
      this.#refuse(`a checkpoint of size ${kept.size} was signed, the tree has ${now.size}`);
    } else if (!treeRoot(now.size, this.#subtrees).equals(now.root)) {
      this.#refuse(CHANGED);
    } else if (kept !== null && !this.#continues(kept, now)) {
      this.#refuse(`the tree of size ${now.size} does not continue that of size ${kept.size}, which was signed`);
    }
    return this.#refusal === null ? now : { refused: this.#refusal };
  }

  /** Reads the newest recorded checkpoint from the log; only later events count as unrecorded. */
  noteRecorded(): void {
    const { log } = this.#parts;
    this.#recorded = notedCheckpoint(log.recorded())?.size ?? 0;
    this.#unrecorded = this.#recorded < this.size ? log.others(this.#recorded, this.size) : 0;
  }

  /** The newest checkpoint that `count` of the known witnesses have cosigned and the present key has signed. */
  cosigned(count: number): KeptCheckpoint | TreeRefusal | Uncosigned {
    if (this.#refusal !== null) return { refused: this.#refusal };
    const known = this.#cosigned.count;
    if (count > known) return { uncosigned: `${count} cosignatures are asked for, ${known} witnesses are known` };
    const size = this.#cosigned.newest(count);
    const kept = size === 0 ? null : this.#parts.store.checkpoint(size);
    if (kept !== null && this.#isBySigner(kept)) return kept;
    const since = this.#parts.store.formerSigners.length === 0 ? "" : " since another key or name signs";
    return { uncosigned: `no checkpoint has ${count} cosignatures of known witnesses${since}` };
  }

  /** A checkpoint's note with all its cosignatures. */
  noteOf(checkpoint: KeptCheckpoint): string {
    return this.#cosigned.noteOf(checkpoint);
  }

  /** Keeps the valid cosignatures of a witness' answer. Returns their verifier keys. */
  keepCosignatures(size: number, lines: string): string[] {
    const kept = this.#parts.store.checkpoint(size);
    return kept === null ? [] : this.#cosigned.add(kept, lines);
  }

  /**
   * The size of the newest checkpoint that the present key has signed and this witness' key has cosigned; 0 if there is
   * none.
   */
  cosignedBy({ name, id }: WitnessKey): number {
    const size = this.#cosigned.newestOf({ name, keyId: id.toString("hex") });
    return this.#isBySigner({ size }) ? size : 0;
  }

  /**
   * The newest checkpoint of the present key, for a witness that has cosigned size `old`; null: the present key has
   * signed none.
   */
  submission(old: number): Submission | TreeRefusal | null {
    if (this.#refusal !== null) return { refused: this.#refusal };
    const kept = this.#parts.store.lastCheckpoint();
    if (kept === null || !this.#isBySigner(kept)) return null;
    const { size, note } = kept;
    if (old > size) return { size, note, proof: null };
    return { size, note, proof: old === 0 ? [] : consistencyProof(old, size, this.#subtrees) };
  }

  /**
   * A proof of an event in the tree, against the newest checkpoint that includes it and that `cosigned` witnesses have
   * cosigned. If `cosigned` is null, one witness is enough, and without any, the newest signed checkpoint is used. For
   * an archived event, the caller gives its row from the archive.
   */
  proof(
    seq: number,
    cosigned: number | null = null,
    archivedRow: RowBytes | null = null,
  ): { readonly text: string } | TreeRefusal | Uncosigned | Archived {
    const archived = this.#parts.log.archivedThrough();
    if (seq <= archived && archivedRow === null) return { oldestSeq: archived + 1 };
    const checkpoint = this.#provingCheckpoint(seq, cosigned);
    if ("refused" in checkpoint || "uncosigned" in checkpoint) return checkpoint;
    const [row] = seq <= archived ? [archivedRow as RowBytes] : this.#parts.log.rows(seq - 1, seq);
    const found = this.#checked(row, seq);
    // An archive with another event does not belong to this log.
    if ("refused" in found) return seq <= archived ? { oldestSeq: archived + 1 } : found;
    const canonical = this.#canonical.bytes(found.row);
    if (canonical.length > PROVEN_BYTES_MAX) return { refused: `event ${seq} is too large for a proof` };
    const { size, root } = checkpoint;
    const hashes = inclusionProof(seq - 1, size, this.#subtrees);
    if (!provesInclusion(found.leaf, seq - 1, size, hashes, root)) return { refused: CHANGED };
    return { text: proofText({ canonical, index: seq - 1, hashes, checkpoint: this.noteOf(checkpoint) }) };
  }

  #provingCheckpoint(seq: number, count: number | null): KeptCheckpoint | TreeRefusal | Uncosigned {
    const cosigned = this.cosigned(count ?? 1);
    if ("refused" in cosigned || ("size" in cosigned && cosigned.size >= seq)) return cosigned;
    if (count !== null && "uncosigned" in cosigned) return cosigned;
    if (count !== null)
      return { uncosigned: `event ${seq} is in no checkpoint with ${count} cosignatures of known witnesses yet` };
    const { store, readOnly } = this.#parts;
    const kept = store.lastCheckpoint();
    if (kept !== null && kept.size >= seq && (readOnly || this.#isBySigner(kept))) return kept;
    return readOnly ? { uncosigned: `event ${seq} is in no checkpoint that was signed` } : this.checkpoint();
  }

  /** The hashes of a tile, or the entries of a bundle; null if the tree has fewer. */
  tile({ level, index, width }: TileName): { readonly bytes: Buffer } | TreeRefusal | Archived | null {
    if (this.#parts.missing !== null) return { refused: this.#parts.missing };
    if (level !== "entries") {
      const hashes = this.#parts.store.tile(level, index);
      const bytes = width * HASH_BYTES;
      return hashes === undefined || hashes.length < bytes ? null : { bytes: hashes.subarray(0, bytes) };
    }
    const first = index * TILE_HASHES;
    return first + width > this.size ? null : this.#bundle(first, width);
  }

  /**
   * The entries of a bundle. If all of its events are archived, the log may have none of them, so the answer names the
   * oldest event that is not archived.
   */
  #bundle(first: number, width: number): { readonly bytes: Buffer } | TreeRefusal | Archived {
    const { log } = this.#parts;
    const archived = log.archivedThrough();
    if (first + TILE_HASHES <= archived) return { oldestSeq: archived + 1 };
    const entries = new Map<number, Buffer>();
    for (const row of log.rows(first, first + width)) entries.set(Number(row[0]), this.#canonical.entry(row));
    // Read after the rows: entries of rows that are removed in between are kept by then.
    const kept = log.archivedEntries();
    kept.entries.forEach((entry, at) => void entries.set(kept.first + at, entry));
    const parts: Buffer[] = [];
    for (let seq = first + 1; seq <= first + width; seq++) {
      const entry = entries.get(seq);
      if (entry === undefined && seq <= log.archivedThrough()) return { oldestSeq: log.archivedThrough() + 1 };
      if (entry === undefined) return { refused: `event ${seq} is missing in the log` };
      if (!this.#subtrees(seq - 1, 0).equals(leafHash(entry))) return { refused: otherEvent(seq) };
      parts.push(Buffer.from([entry.length >> 8, entry.length]), entry);
    }
    return { bytes: Buffer.concat(parts) };
  }

  /** `whole`: the tree has all events, and only the service will add more; the closing mark is set. */
  close(whole: boolean): void {
    const { store, log } = this.#parts;
    if (whole && this.#refusal === null) store.setClosed(this.size);
    store.close();
    log.close();
  }

  /** Whether no former signer has signed checkpoints of this size. */
  #isBySigner({ size }: Pick<KeptCheckpoint, "size">): boolean {
    return size > (this.#parts.store.formerSigners.at(-1)?.until ?? -1);
  }

  #refuse(why: string): false {
    this.#refusal = why;
    return false;
  }

  /** Until a checkpoint is signed, another key or name may become the signer. */
  #begin(): void {
    const { store, log } = this.#parts;
    const signer = this.#signer;
    const { identity: known, size } = store;
    if (known !== null && store.lastCheckpoint() !== null) return;
    const identity = { log: log.id, possibleCpus: log.possibleCpus, origin: signer.name, vkey: signer.vkey };
    if (known === null || size === 0) store.begin(identity);
    else if (known.vkey !== signer.vkey) store.begin({ ...known, origin: signer.name, vkey: signer.vkey });
  }

  #newEdge(): Edge {
    const keep = (level: number, index: number, hashes: Buffer): void => {
      this.#full.push({ level, index, hashes: Buffer.from(hashes) });
    };
    return new Edge(this.#parts.store.size, (level, index) => this.#tile(level, index), keep);
  }

  /** Missing hashes are read as zeros, so that no root matches. */
  #tile(level: number, index: number): Buffer {
    const hashes = this.#parts.store.tile(level, index) ?? Buffer.alloc(0);
    return hashes.length < TILE_BYTES ? Buffer.concat([hashes], TILE_BYTES) : hashes;
  }

  /** The contradiction between the tree and the log, the key, or the signed checkpoints; null if there is none. */
  #contradiction(): string | null {
    const { store, log } = this.#parts;
    const signer = this.#signer;
    const { log: id, possibleCpus, vkey } = store.identity as TreeIdentity;
    if (id !== log.id) return `the tree is of the log ${id}, this log is ${log.id}`;
    if (vkey !== signer.vkey && this.#parts.readOnly === undefined)
      return `the tree is signed by ${vkey}, the key is ${signer.vkey}`;
    if (possibleCpus !== log.possibleCpus)
      return `the log was for ${possibleCpus} possible CPUs, now it says ${log.possibleCpus}`;
    const last = log.lastSeq();
    if (last < this.size) return `the log ends at event ${last}, the tree has ${this.size}`;
    const kept = store.lastCheckpoint();
    if (kept !== null && kept.size > last)
      return `the log ends at event ${last}, a checkpoint of size ${kept.size} was signed`;
    return (
      (kept === null ? null : this.#damage(kept)) ?? this.#shorter(kept) ?? this.#edgeFault() ?? this.#tailDifference()
    );
  }

  /**
   * The fault of a tree that has fewer events than were signed, or another root. Such a tree is not extended: it may be
   * another log's.
   */
  #shorter(kept: KeptCheckpoint | null): string | null {
    const { log, published } = this.#parts;
    const signed = [kept, published, notedCheckpoint(log.recorded())].filter((one) => one !== null);
    for (const { size, root } of signed) {
      if (size > this.size) return `the tree has ${this.size} events, a checkpoint of size ${size} was signed`;
      if (!treeRoot(size, this.#subtrees).equals(root)) return rootFault(size);
    }
    return null;
  }

  /** Computes each hash at the right edge above the leaves again from the full tile below it. */
  #edgeFault(): string | null {
    for (const { level, index, hashes } of this.#edge.partial())
      for (let at = 0; level > 0 && at < hashes.length / HASH_BYTES; at++) {
        const below = fullRoot(this.#tile(level - 1, index * TILE_HASHES + at));
        if (!below.equals(hashes.subarray(at * HASH_BYTES, (at + 1) * HASH_BYTES)))
          return `hash ${at} of tile ${index} of the tree's level ${level} is not that of the tile below it`;
      }
    return null;
  }

  #damage(kept: KeptCheckpoint): string | null {
    const { store } = this.#parts;
    // A tree that was made from an archive does not name the key. Then the signature is not checked here: the reader of
    // the archive must know the key.
    const isKnown = store.identity?.vkey === this.#signer.vkey;
    const signer = signerOfSize(store.formerSigners, kept.size) ?? (isKnown ? this.#signer : null);
    const wrong = signer === null ? null : checkpointFault(kept, signer);
    if (wrong !== null) return wrong;
    if (this.size < kept.size || treeRoot(kept.size, this.#subtrees).equals(kept.root)) return null;
    return rootFault(kept.size);
  }

  /** Compares the last events of the tree with the log's: a log that was replaced by another ends differently. */
  #tailDifference(): string | null {
    let seq = Math.max(this.#parts.log.archivedThrough(), this.size - TILE_HASHES);
    for (const row of this.#parts.log.rows(seq, this.size)) {
      const found = this.#checked(row, ++seq);
      if ("refused" in found) return found.refused;
    }
    return seq >= this.size ? null : `event ${seq + 1} is missing in the log`;
  }

  /** An event with its leaf hash, if the tree has the same event. */
  #checked(row: RowBytes | undefined, seq: number): { readonly row: RowBytes; readonly leaf: Buffer } | TreeRefusal {
    if (row === undefined || row[0] !== seq) return { refused: `event ${seq} is missing in the log` };
    const leaf = Buffer.allocUnsafe(HASH_BYTES);
    this.#canonical.leafHash(row, leaf, 0);
    if (this.#subtrees(seq - 1, 0).equals(leaf)) return { row, leaf };
    return { refused: otherEvent(seq) };
  }

  #continues(kept: KeptCheckpoint, now: { readonly size: number; readonly root: Buffer }): boolean {
    const proof = kept.size === 0 ? [] : consistencyProof(kept.size, now.size, this.#subtrees);
    return provesConsistency(kept, now, proof);
  }
}

function otherEvent(seq: number): string {
  return `event ${seq} in the log is not the one that the tree has`;
}

function rootFault(size: number): string {
  return `the tree's root at size ${size} is not the one that was signed`;
}

/** The former signer of checkpoints of this size; null: the present one signs them. */
export function signerOfSize(former: readonly FormerSigner[], size: number): Verifier | null {
  const signer = former.find(({ until }) => size <= until);
  return signer === undefined ? null : readVkey(signer.vkey);
}

/** The fault of a kept checkpoint's note; null if it has none. */
export function checkpointFault({ size, root, note }: KeptCheckpoint, verifier: Verifier): string | null {
  const opened = openNote(note, verifier);
  if ("wrong" in opened) return `the checkpoint of size ${size}: ${opened.wrong}`;
  const signed = readCheckpoint(opened.text);
  if (signed !== null && signed.origin === verifier.name && signed.size === size && signed.root.equals(root))
    return null;
  return `the checkpoint of size ${size}: the signed note has another origin, size or root`;
}

/**
 * A text about events that were added to a log after its tree was closed with all of its events; null if there are
 * none.
 */
export function addedSince(closedAt: number | null, lastSeq: number): string | null {
  if (closedAt === null || lastSeq <= closedAt) return null;
  const events = lastSeq === closedAt + 1 ? `event ${lastSeq}` : `events ${closedAt + 1} to ${lastSeq}`;
  return `${events} came into the log after the service had stopped at ${closedAt}`;
}
