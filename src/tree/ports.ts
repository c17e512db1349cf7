/**
 * The interfaces of the tree: its store, the log that it reads, and its readers. Roots, proofs and consistency need
 * only tiles. The events are read, through `LogRows`, for entry bundles and for the event in a proof; whatever takes
 * events out of the log's table must offer them there.
 */

import type { RowBytes } from "../log/canonical.ts";
import type { TileName } from "../tlog/tiles.ts";

/** The log that a tree belongs to, and its signer. */
export interface TreeIdentity {
  readonly log: string;
  readonly possibleCpus: string;
  /** The first line of the tree's checkpoints, and the name of the key. */
  readonly origin: string;
  readonly vkey: string;
}

/** A key that has signed checkpoints of sizes up to `until`. */
export interface FormerSigner {
  readonly until: number;
  readonly origin: string;
  readonly vkey: string;
}

/** A signed checkpoint. */
export interface KeptCheckpoint {
  readonly size: number;
  readonly root: Buffer;
  readonly note: string;
  readonly timeUs: number;
}

/** A verified cosignature of a checkpoint. */
export interface KeptCosignature {
  readonly size: number;
  /** The name of the witness, and the id of its key in hex. */
  readonly name: string;
  readonly keyId: string;
  /** The key's id, the time and the signature, as in the line of the note. */
  readonly bytes: Buffer;
}

/** The size and the key of a cosignature. */
export type Cosigner = Omit<KeptCosignature, "bytes">;

export interface TileHashes {
  readonly level: number;
  readonly index: number;
  readonly hashes: Buffer;
}

/** The storage of a tree. */
export interface TreeStore {
  /** null: the tree is new. */
  readonly identity: TreeIdentity | null;
  /** The number of leaves in its tiles. */
  readonly size: number;
  begin(identity: TreeIdentity): void;
  /** Former signers, ascending by the sizes that they have signed. */
  readonly formerSigners: readonly FormerSigner[];
  /**
   * Sets the signer of larger sizes; the present one has signed sizes up to `until`. Keeps `checkpoint`, if given, in
   * the same transaction.
   */
  changeSigner(signer: Pick<TreeIdentity, "origin" | "vkey">, until: number, checkpoint?: KeptCheckpoint): void;
  /** Sets the closing mark (null: removes it); durable when this returns. */
  setClosed(size: number | null): void;
  /** The hashes of a tile; of a partial tile, those that exist. */
  tile(level: number, index: number): Buffer | undefined;
  /** Writes tiles in one transaction, and replaces existing ones. */
  write(tiles: Iterable<TileHashes>): void;
  /** The one with the largest size. */
  lastCheckpoint(): KeptCheckpoint | null;
  /** Durable when this returns. */
  keep(checkpoint: KeptCheckpoint): void;
  /** The checkpoint of a size. */
  checkpoint(size: number): KeptCheckpoint | null;
  /**
   * Keeps cosignatures in one transaction, durable when this returns. A cosignature of a key and size that is kept
   * already stays.
   */
  keepCosignatures(cosignatures: readonly KeptCosignature[]): void;
  /** Cosignatures of the checkpoint of a size. */
  cosignatures(size: number): readonly KeptCosignature[];
  /** All cosignatures, descending by size. */
  cosigners(): Iterable<Cosigner>;
  close(): void;
}

/** Entries of the tree for events from `first` on. */
export interface KeptEntries {
  readonly first: number;
  readonly entries: readonly Buffer[];
}

/**
 * The log as the tree reads it. Proofs need the columns of events. Tiles of archived events are never computed again,
 * so their rows are not needed.
 */
export interface LogRows {
  /** The ledger's facts. */
  readonly id: string;
  readonly possibleCpus: string;
  readonly life: string;
  lastSeq(): number;
  /** The last archived event. The log has no rows up to it. */
  archivedThrough(): number;
  /** Entries of archived events that share an entry bundle with later events, as far as their rows are removed. */
  archivedEntries(): KeptEntries;
  /** Events afterSeq + 1 to untilSeq, ascending. */
  rows(afterSeq: number, untilSeq: number): Iterable<RowBytes>;
  /** How many events of that range are not CHECKPOINT events. */
  others(afterSeq: number, untilSeq: number): number;
  /** The note of the checkpoint that the last CHECKPOINT event records; "" if there is none. */
  recorded(): string;
  close(): void;
}

/** The status of a tree. */
export interface TreeStatus extends TreeIdentity {
  readonly size: number;
  readonly lastSeq: number;
  /** The size of the last signed checkpoint; 0 if there is none. */
  readonly signedSize: number;
  /** The reason why nothing is signed any more, or null. */
  readonly refusal: string | null;
}

/**
 * The reason why there is no answer: the log differs from the tree; the tree has not reached the event yet; too few
 * witnesses have cosigned; or the events are archived.
 */
export type NoAnswer =
  | { readonly refused: string }
  | { readonly behind: string }
  | { readonly uncosigned: string }
  | Archived;

/**
 * The newest checkpoint for a witness, with the proof that it continues the one of size `old`. `proof` null: the newest
 * checkpoint is smaller than `old`.
 */
export interface Submission {
  readonly size: number;
  readonly note: string;
  readonly proof: readonly Buffer[] | null;
}

/** The status of a witness' key. */
export interface WitnessStatus {
  readonly name: string;
  readonly vkey: string;
  readonly url: string;
  /** The size of the newest checkpoint that the key has cosigned; 0 if there is none. */
  readonly cosignedSize: number;
  /** alarm: the witness has seen another history of this log. */
  readonly state: "waiting" | "cosigning" | "failing" | "alarm";
  /** The cause of the failure or alarm; null: there is none. */
  readonly detail: string | null;
}

/** The oldest event that is not archived. */
type Archived = { readonly oldestSeq: number };

/** When checkpoints are signed without a request: after this many events, or this many seconds. 0: no limit. */
export interface SigningRule {
  readonly events: number;
  readonly seconds: number;
}

/** The tree, for its readers. It is built and signed beside the engine. */
export interface TreeReader {
  status(): Promise<TreeStatus>;
  /** The signed note of a tree that includes all present events. */
  checkpoint(): Promise<{ readonly note: string } | NoAnswer>;
  /** The newest checkpoint that `count` of the known witnesses have cosigned. */
  cosigned(count: number): Promise<{ readonly note: string } | NoAnswer>;
  /**
   * A proof of an event; null: there is no such event. The proof uses the newest checkpoint that at least `cosigned` of
   * the known witnesses have cosigned. If `cosigned` is null: the newest checkpoint that a witness has cosigned, or, if
   * that does not include the event, the newest signed one. `row`: an archived event, from its archive.
   */
  proof(seq: number, cosigned: number | null, row?: RowBytes): Promise<{ readonly text: string } | NoAnswer | null>;
  /** null: there is no such tile. */
  tile(name: TileName): Promise<{ readonly bytes: Buffer } | NoAnswer | null>;
  close(): Promise<void>;
}
