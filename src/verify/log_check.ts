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

/** Events after which others have their turn. */
const TURN_EVENTS = 16_384;

/** The tree as it was handed down, of which nothing is taken for granted. */
interface Tree {
  readonly size: number;
  tile(level: number, index: number): Buffer | undefined;
  /** Ascending by size. */
  checkpoints(): Iterable<Signed>;
}

/** A checkpoint of the directory's own, or one that was kept outside of it: that one's signatures are looked at already. */
export interface Signed extends KeptCheckpoint {
  /** The file that has it. */
  readonly outside?: string;
}

export interface LogReport {
  readonly findings: readonly Finding[];
  /** Events that were read: up to the first that is wrong, and the rest of its tile. */
  readonly events: number;
  /** Checkpoints that are signed, and whose roots are those of the events. */
  readonly checkpoints: number;
  /** The size of the last of these. */
  readonly signedSize: number;
  /** The size of the last of these that was kept outside of the directory; 0: none was. */
  readonly outsideSize: number;
}

export interface LogCheckParts {
  readonly log: Pick<LogRows, "rows">;
  readonly lastSeq: number;
  /** Events up to this one cannot be read any more: of them there is what the tree has. 0: all can. */
  readonly goneThrough: number;
  /** Told of each row. */
  readonly look: (row: RowBytes) => void;
  /** Told of each tile that was made anew, full or, at the end, as far as it goes. The hashes are to be read at once. */
  readonly lookTile: (level: number, index: number, hashes: Buffer) => void;
  /** null: there is none. */
  readonly tree: Tree | null;
  /** Whose signatures count for a checkpoint of that size; asked only if there is one. */
  readonly verifierOf: (size: number) => Verifier;
  /** Told of events that were read. */
  readonly progress: (events: number) => void;
}

/**
 * Reads the whole log and hashes it anew: seqs without a gap, times that step back where a CLOCK_STEP says so alone, each event's hash against the
 * tree's, each node's of the tree against those below it, each signed checkpoint's root. Ends behind the first that is wrong.
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
  /** The events are not those of the tree, or the tree is not of one piece: what comes behind follows from that. */
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

  /** Answers whether it came to the end of the log. */
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

  /** Events that cannot be read are in the tree as it has them, so that its nodes and what was signed of it are made anew. */
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

  /** Of a tile, the hashes that the tree has are to be those that were made anew. */
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
        `the tree's hash over events ${first} to ${first + span - 1} is not that of the hashes below it`,
      );
    } else if (fitsAbove) {
      this.#found(first, "the tree's hash of it has changed: the event fits the hash above that");
    } else {
      this.#found(first, "it is not the one that the tree has");
    }
  }

  /** Whether a full tile that was made anew is the one that the tree's next level has. */
  #fitsAbove(tree: Tree, level: number, index: number, hashes: Buffer): boolean {
    if (hashes.length < TILE_HASHES * HASH_BYTES) return false;
    const at = (index % TILE_HASHES) * HASH_BYTES;
    const above = tree.tile(level + 1, Math.floor(index / TILE_HASHES))?.subarray(at, at + HASH_BYTES);
    return above?.equals(fullRoot(hashes)) ?? false;
  }

  #compareEdge(): void {
    for (const { level, index, hashes } of this.#edge.partial()) this.#compare(level, index, hashes);
  }

  /** Checkpoints of the tree as it is now. */
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
   * The range that what was signed gives. Whoever had the directory's key may have signed its checkpoints anew: one that was kept
   * outside is only narrowed by others of these.
   */
  #contradicted({ size, outside }: Signed): void {
    this.#compareEdge();
    if (this.#differed && outside === undefined) return;
    this.#differed = true;
    const first = (outside === undefined ? this.#signedSize : this.#outsideSize) + 1;
    const which = first === size ? "it is not" : `it, or an event up to ${size}, is not`;
    const where = outside === undefined ? "" : ` in ${outside}`;
    this.#found(first, `${which} what was signed: the checkpoint of size ${size}${where} has another root`);
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

/** `beforeUs`: the time of the event before it; null: that cannot be read. */
function timeFault(row: RowBytes, beforeUs: number | null): string | null {
  const timeUs = Number(row[1]);
  if (row[CMD_COLUMN] !== CMD.CLOCK_STEP)
    return beforeUs !== null && timeUs < beforeUs ? "its time is before that of the event before it" : null;
  const { was, is } = attrOf(row) as ClockStepCommand["attr"];
  if (is !== timeText(timeUs)) return "it tells of a clock that was put back to another time than its own";
  if (beforeUs === null) return null;
  return was === timeText(beforeUs) && timeUs < beforeUs
    ? null
    : "it tells of a clock that was put back from another time than that of the event before it";
}
