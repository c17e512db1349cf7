/**
 * Reads a whole log, computes its Merkle tree anew, and compares it with the stored tree and the signed checkpoints.
 * The hashes of a tile are compared as a whole, so a sound event costs three SHA-256. If a tile differs, the tile above
 * it tells whether the event or the tree was changed. The check stops after the tile of 256 events with the first wrong
 * event, because all later hashes depend on that event.
 */

import { setImmediate as turn } from "node:timers/promises";
import { CMD } from "../abi/service.ts";
import { CanonicalWriter, type RowBytes } from "../log/canonical.ts";
import { timeText } from "../log/event_json.ts";
import type { ClockStepCommand } from "../syscall/command.ts";
import { fullRoot, HASH_BYTES } from "../tlog/merkle.ts";
import type { Verifier } from "../tlog/note.ts";
import { Edge, TILE_HASHES } from "../tlog/tiles.ts";
import { checkpointFault } from "../tree/log_tree.ts";
import type { KeptCheckpoint, LogRows } from "../tree/ports.ts";
import type { Finding } from "./finding.ts";
import { attrOf, CMD_COLUMN } from "./row_attr.ts";

/** Events after which the check lets the event loop run. */
const TURN_EVENTS = 16_384;

/** The stored tree. The check trusts none of it. */
interface Tree {
  readonly size: number;
  tile(level: number, index: number): Buffer | undefined;
  /** Ascending by size. */
  checkpoints(): Iterable<Signed>;
}

/**
 * A checkpoint of the data directory, or one that was kept outside of it. The signatures of an outside one have been
 * verified before.
 */
export interface Signed extends KeptCheckpoint {
  /** The file that has the checkpoint; only of one that was kept outside. */
  readonly outside?: string;
}

export interface LogReport {
  readonly findings: readonly Finding[];
  /** Events that were read. If an event is wrong, this includes the rest of its tile of 256 events. */
  readonly events: number;
  /** Checkpoints whose signature holds and whose root is that of the events. */
  readonly checkpoints: number;
  /** The size of the last such checkpoint. */
  readonly signedSize: number;
  /** The size of the last such checkpoint that was kept outside of the directory; 0 if there is none. */
  readonly outsideSize: number;
}

export interface LogCheckParts {
  readonly log: Pick<LogRows, "rows">;
  readonly lastSeq: number;
  /** The last event that cannot be read any more; its hash comes from the tree. 0: all events can be read. */
  readonly goneThrough: number;
  /** Called with each row. */
  readonly look: (row: RowBytes) => void;
  /**
   * Called with each tile that was computed from the events; the last tile of a level may be partial. `hashes` is valid
   * only during the call.
   */
  readonly lookTile: (level: number, index: number, hashes: Buffer) => void;
  /** null: the directory has no tree. */
  readonly tree: Tree | null;
  /** The key that signs checkpoints of that size; called only if there is a checkpoint. */
  readonly verifierOf: (size: number) => Verifier;
  /** Called with the number of events that were read. */
  readonly progress: (events: number) => void;
}

/**
 * Reads and hashes the whole log. It checks that seqs have no gap; that times go back only at a CLOCK_STEP event; that
 * the hashes of events, and of the nodes above them, are the tree's; and that the roots of signed checkpoints are those
 * of the events. It stops after the tile with the first wrong event.
 */
export function checkLog(parts: LogCheckParts): Promise<LogReport> {
  return new LogCheck(parts).run();
}

class LogCheck {
  readonly #parts: LogCheckParts;
  readonly #findings: Finding[] = [];
  readonly #edge: Edge;
  readonly #checkpoints: Iterator<Signed>;
  #next: Signed | undefined;
  /**
   * Whether a hash has differed from the tree's or a checkpoint's. Later differences would only follow from the first,
   * so they are not reported.
   */
  #differed = false;
  #good = 0;
  #signedSize = 0;
  #outsideSize = 0;

  constructor(parts: LogCheckParts) {
    this.#parts = parts;
    this.#edge = new Edge(0, noTiles, (level, index, hashes) => {
      this.#compare(level, index, hashes);
      parts.lookTile(level, index, hashes);
    });
    this.#checkpoints = (parts.tree?.checkpoints() ?? [])[Symbol.iterator]();
    this.#next = this.#nextCheckpoint();
  }

  async run(): Promise<LogReport> {
    const { tree, lastSeq } = this.#parts;
    const isWhole = await this.#read();
    this.#compareEdge();
    for (const { level, index, hashes } of this.#edge.partial()) this.#parts.lookTile(level, index, hashes);
    const end = this.#edge.size;
    if (!isWhole && this.#findings.length === 0) this.#found(end + 1, "it is missing");
    if (isWhole && tree !== null && tree.size > lastSeq)
      this.#found(lastSeq + 1, `it is missing: the tree has events up to ${tree.size}`);
    if (this.#next !== undefined && isWhole && this.#findings.length === 0)
      this.#found(end + 1, `it is missing: a checkpoint of size ${this.#next.size} was signed`);
    this.#checkpoints.return?.();
    return {
      findings: this.#findings,
      events: end,
      checkpoints: this.#good,
      signedSize: this.#signedSize,
      outsideSize: this.#outsideSize,
    };
  }

  /** Returns whether it reached the end of the log. */
  async #read(): Promise<boolean> {
    const { log, lastSeq, goneThrough, look, progress } = this.#parts;
    const canonical = new CanonicalWriter();
    const edge = this.#edge;
    let timeUs: number | null = null;
    try {
      this.#checkSigned();
      if (!this.#takeGone()) return false;
      for (const row of log.rows(goneThrough, lastSeq)) {
        if (row[0] !== edge.size + 1) return false;
        look(row);
        edge.append((target, at) => canonical.leafHash(row, target, at));
        const wrong = timeFault(row, timeUs);
        if (wrong !== null) this.#found(edge.size, wrong);
        timeUs = Number(row[1]);
        this.#checkSigned();
        if (edge.size % TILE_HASHES !== 0) continue;
        progress(edge.size);
        if (this.#findings.some(({ seq }) => seq !== null)) return false;
        if (edge.size % TURN_EVENTS === 0) await turn();
      }
    } catch (error) {
      this.#found(edge.size + 1, `it cannot be read: ${(error as Error).message}`);
      return false;
    }
    return edge.size === lastSeq;
  }

  /**
   * Appends the tree's own hashes for events that cannot be read, so that the nodes above them and the signed roots are
   * still checked.
   */
  #takeGone(): boolean {
    const { goneThrough, tree } = this.#parts;
    while (this.#edge.size < goneThrough) {
      const at = (this.#edge.size % TILE_HASHES) * HASH_BYTES;
      const hashes = tree?.tile(0, Math.floor(this.#edge.size / TILE_HASHES))?.subarray(at);
      if (hashes === undefined || hashes.length < HASH_BYTES) return false;
      for (let from = 0; from < hashes.length && this.#edge.size < goneThrough; from += HASH_BYTES) {
        this.#edge.append((target, to) => void hashes.copy(target, to, from, from + HASH_BYTES));
        this.#checkSigned();
      }
    }
    return true;
  }

  /** Compares the hashes of a computed tile with those that the tree has. */
  #compare(level: number, index: number, hashes: Buffer): void {
    const { tree } = this.#parts;
    if (tree === null || this.#differed) return;
    const kept = Math.floor(tree.size / TILE_HASHES ** level) - index * TILE_HASHES;
    const bytes = Math.min(hashes.length, Math.max(kept, 0) * HASH_BYTES);
    const stored = tree.tile(level, index) ?? Buffer.alloc(0);
    if (stored.subarray(0, bytes).equals(hashes.subarray(0, bytes))) return;
    for (let at = 0; at < bytes; at += HASH_BYTES) {
      if (stored.subarray(at, at + HASH_BYTES).equals(hashes.subarray(at, at + HASH_BYTES))) continue;
      this.#differs(level, index * TILE_HASHES + at / HASH_BYTES, this.#fitsAbove(tree, level, index, hashes));
      return;
    }
  }

  #differs(level: number, number: number, fitsAbove: boolean): void {
    this.#differed = true;
    const span = TILE_HASHES ** level;
    const first = number * span + 1;
    if (level > 0) {
      this.#found(
        first,
        `the tree's hash over events ${first} to ${first + span - 1} does not match the hashes below it`,
      );
    } else if (fitsAbove) {
      this.#found(first, "the tree's hash of it was changed: the event matches the hash of its tile, one level above");
    } else {
      this.#found(first, "it differs from the event that the tree has");
    }
  }

  /** Whether a full computed tile gives the hash that the tree's next level has for it. */
  #fitsAbove(tree: Tree, level: number, index: number, hashes: Buffer): boolean {
    if (hashes.length < TILE_HASHES * HASH_BYTES) return false;
    const at = (index % TILE_HASHES) * HASH_BYTES;
    const above = tree.tile(level + 1, Math.floor(index / TILE_HASHES))?.subarray(at, at + HASH_BYTES);
    return above?.equals(fullRoot(hashes)) ?? false;
  }

  #compareEdge(): void {
    for (const { level, index, hashes } of this.#edge.partial()) this.#compare(level, index, hashes);
  }

  /** Checks the checkpoints whose size the computed tree has reached. */
  #checkSigned(): void {
    for (; this.#next !== undefined && this.#next.size <= this.#edge.size; this.#next = this.#nextCheckpoint()) {
      const kept = this.#next;
      const fault = kept.outside === undefined ? checkpointFault(kept, this.#parts.verifierOf(kept.size)) : null;
      if (fault !== null) this.#findings.push({ seq: null, text: fault });
      else if (kept.root.equals(this.#edge.root())) {
        this.#good++;
        this.#signedSize = kept.size;
        if (kept.outside !== undefined) this.#outsideSize = kept.size;
      } else this.#contradicted(kept);
    }
  }

  /**
   * Reports the range of events in which the contradiction begins: from after the last checkpoint that matched. For a
   * checkpoint that was kept outside, only other outside ones narrow the range, because whoever had the directory's key
   * may have signed the directory's checkpoints anew.
   */
  #contradicted({ size, outside }: Signed): void {
    this.#compareEdge();
    if (this.#differed && outside === undefined) return;
    this.#differed = true;
    const first = (outside === undefined ? this.#signedSize : this.#outsideSize) + 1;
    const which = first === size ? "it differs" : `it, or an event up to ${size}, differs`;
    const where = outside === undefined ? "" : ` in ${outside}`;
    this.#found(first, `${which} from the signed log: the checkpoint of size ${size}${where} has another root`);
  }

  #nextCheckpoint(): Signed | undefined {
    const { value, done } = this.#checkpoints.next();
    return done === true ? undefined : value;
  }

  #found(seq: number, text: string): void {
    this.#findings.push({ seq, text });
  }
}

function noTiles(): never {
  throw new Error("an empty tree has no tiles");
}

/** `beforeUs`: the time of the previous event; null if it cannot be read. */
function timeFault(row: RowBytes, beforeUs: number | null): string | null {
  const timeUs = Number(row[1]);
  if (row[CMD_COLUMN] !== CMD.CLOCK_STEP)
    return beforeUs !== null && timeUs < beforeUs ? "its time is before that of the previous event" : null;
  const { was, is } = attrOf(row) as ClockStepCommand["attr"];
  if (is !== timeText(timeUs)) return "the clock step that it records does not end at its own time";
  if (beforeUs === null) return null;
  return was === timeText(beforeUs) && timeUs < beforeUs
    ? null
    : "the clock step that it records does not start at the time of the previous event";
}
