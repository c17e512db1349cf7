/**
 * Moments: the elements of one map as they were right after an event, for readers of long maps. A page has at most
 * 4,096 elements; a reader who wants more reads the next pages as of the first page's event. For example, after the
 * page of event 7 a command changes k from 1 to 2: the moment keeps k = 1, and a later page as of event 7 has k = 1.
 *
 * A reader goes through the elements in their order, so bytes of elements that it has passed are neither kept nor held
 * any longer. The engine keeps 64 MiB for all readers. After that, pages come from the thread of the past, which has
 * every moment, but may be far behind a busy log, and needs time and memory to catch up. So a moment stays open for ten
 * minutes after each page that is read from it. Each page holds the engine's thread for some milliseconds.
 */

import sortedBtree from "sorted-btree";
import { CMD } from "../abi/service.ts";
import { afterPrefix, type Cell, type CellKey, type Cells, compareKeys } from "../maps/cells.ts";
import { elementsPrefix } from "../maps/common.ts";
import type { Host, MapRecord, MapType } from "../maps/map.ts";
import { mapType } from "../maps/types.ts";
import { elements } from "../syscall/elements.ts";
import { mapCell } from "../syscall/map_table.ts";
import { OBJECTS } from "../syscall/objects.ts";
import type { Outcome } from "../syscall/outcome.ts";
import { State } from "../syscall/state.ts";
import { IGNORE } from "./followers.ts";
import { overlaid } from "./overlaid.ts";
import type { Clock } from "./ports.ts";

/** The most bytes that all moments keep. If there are more, the moment that was read longest ago is closed. */
const KEPT_BYTES_MAX = 64 * 1024 * 1024;
/** The most moments at once. */
const MOMENTS_MAX = 64;
/** A moment is closed if its reader has not asked for a second page in this time: he may be gone. */
const UNREAD_MS = 10_000;
/**
 * A moment whose second page was read is closed if its reader has not asked for another page in this time. A
 * connection's buffers hold megabytes, which last a slow reader for minutes. A connection that takes nothing is closed
 * earlier (MAPLEDGER_STALL), and its moment with it.
 */
const UNUSED_MS = 600_000;
/** The approximate bytes that a kept cell takes besides its value's: its key, its value's head and its place. */
const CELL_BYTES = 150;
/** The most elements of a later page: some 5 ms of the engine's. */
const PAGE_ELEMENTS = 1024;

/** Cells that announce each change before it is made. */
export interface ChangingCells extends Pick<Cells, "get" | "range"> {
  /** `before` is called with each key that is about to change. Returns a function that ends this. */
  onChange(before: (key: CellKey) => void): () => void;
}

/**
 * The elements of one map as they were right after an event: the present cells, and over them the earlier bytes of
 * cells that have changed since.
 */
class Moment implements Cells {
  readonly #now: ChangingCells;
  readonly #from: CellKey;
  readonly #to: CellKey;
  readonly #mapKey: CellKey;
  readonly #state: State;
  /** Bytes as latin1: a Buffer takes 100 bytes more, and would hold on to all memory that it is a view of. */
  readonly #before = new sortedBtree.default<CellKey, string | null>(undefined, compareKeys);
  /** The cell of the last element that was read: the reader has passed it, and all cells of elements before it. */
  #passed: CellKey = "";
  readonly #stop: () => void;
  readonly map: number;
  bytes = 0;
  usedMs: number;
  /** Whether a page after the first was read. */
  wasRead = false;

  constructor(now: ChangingCells, map: number, host: Host, nowMs: number) {
    this.map = map;
    this.usedMs = nowMs;
    this.#now = now;
    this.#from = elementsPrefix({ id: map });
    this.#to = afterPrefix(this.#from);
    this.#mapKey = mapCell(map);
    this.#state = new State(this, host, IGNORE);
    this.#stop = now.onChange((key) => this.#keep(key));
  }

  /** A page of elements after the key `after`; null: the first page. */
  read(after: Buffer | null, limit: number): Outcome {
    this.wasRead = true;
    if (after !== null) this.#pass(after);
    const target = { by: "id", id: this.map } as const;
    return elements(this.#state, {
      cmd: CMD.MAP_ELEMENTS,
      session: 0,
      caller: "",
      timeUs: 0,
      target,
      attr: { after, limit: Math.min(limit, PAGE_ELEMENTS) },
    });
  }

  /** Drops the kept bytes of elements up to this key. */
  #pass(after: Buffer): void {
    const map = this.#state.map(this.map) as MapRecord;
    const passed = (mapType(map.type) as MapType).cellOf(map, after);
    if (passed <= this.#passed) return;
    this.#passed = passed;
    const dropped: CellKey[] = [];
    for (const [key, before] of this.#before.entries(this.#from)) {
      if (key > passed) break;
      dropped.push(key);
      this.bytes -= keptBytes(before);
    }
    this.#before.deleteKeys(dropped);
  }

  close(): void {
    this.#stop();
  }

  get(key: CellKey): Buffer | undefined {
    const before = this.#before.get(key);
    return before === undefined ? this.#now.get(key) : (bytesOf(before) ?? undefined);
  }

  /** The kept cells over the present ones. */
  range(from: CellKey, to: CellKey): Iterable<Cell> {
    return overlaid(this.#kept(from), this.#now.range(from, to), to);
  }

  *#kept(from: CellKey): Generator<readonly [CellKey, Buffer | null]> {
    for (const [key, before] of this.#before.entries(from)) yield [key, bytesOf(before)];
  }

  put(): void {
    throw new Error("a moment cannot be changed");
  }

  delete(): void {
    throw new Error("a moment cannot be changed");
  }

  /**
   * Keeps a cell's bytes before its first change, if the cell is an element of the map that the reader has not passed,
   * the map's record, or an object, which elements may refer to. Objects that did not exist are not kept.
   */
  #keep(key: CellKey): void {
    const isObject = key.startsWith(OBJECTS);
    if (!isObject && key !== this.#mapKey && (key < this.#from || key >= this.#to || key <= this.#passed)) return;
    if (this.#before.has(key)) return;
    const before = this.#now.get(key) ?? null;
    if (isObject && before === null) return;
    const kept = before === null ? null : before.toString("latin1");
    this.#before.set(key, kept);
    this.bytes += keptBytes(kept);
  }
}

function bytesOf(kept: string | null): Buffer | null {
  return kept === null ? null : Buffer.from(kept, "latin1");
}

function keptBytes(kept: string | null): number {
  return CELL_BYTES + (kept?.length ?? 0);
}

/** The open moments, by the event that each is right after. */
export class Moments {
  readonly #cells: ChangingCells;
  readonly #host: Host;
  readonly #clock: Pick<Clock, "nowMs">;
  /** The moment that was read longest ago comes first. */
  readonly #bySeq = new Map<number, Moment>();

  constructor(cells: ChangingCells, host: Host, clock: Pick<Clock, "nowMs">) {
    this.#cells = cells;
    this.#host = host;
    this.#clock = clock;
  }

  get count(): number {
    return this.#bySeq.size;
  }

  /** The approximate bytes that all of them keep. */
  get bytes(): number {
    let bytes = 0;
    for (const [, moment] of this.#bySeq) bytes += moment.bytes;
    return bytes;
  }

  /** Opens a moment: a map's elements as they are now, right after the event `seq`. */
  open(seq: number, map: number): void {
    this.#bySeq.set(seq, new Moment(this.#cells, map, this.#host, this.#clock.nowMs()));
    this.trim();
  }

  /** At most `limit` elements after the key `after`; null: this moment is not open, or no longer. */
  read(seq: number, map: number, after: Buffer | null, limit: number): Outcome | null {
    const moment = this.#bySeq.get(seq);
    if (moment === undefined || moment.map !== map) return null;
    moment.usedMs = this.#clock.nowMs();
    this.#bySeq.delete(seq);
    this.#bySeq.set(seq, moment);
    return moment.read(after, limit);
  }

  close(seq: number): void {
    this.#bySeq.get(seq)?.close();
    this.#bySeq.delete(seq);
  }

  /** Closes the moments of events from `seq` on, which were rolled back. */
  closeFrom(seq: number): void {
    for (const [one] of [...this.#bySeq]) if (one >= seq) this.close(one);
  }

  /** Closes moments that nobody reads from, or that keep too much. */
  trim(): void {
    if (this.#bySeq.size === 0) return;
    const nowMs = this.#clock.nowMs();
    let bytes = 0;
    for (const [seq, moment] of [...this.#bySeq])
      if (nowMs - moment.usedMs > (moment.wasRead ? UNUSED_MS : UNREAD_MS)) this.close(seq);
      else bytes += moment.bytes;
    for (const [seq, moment] of [...this.#bySeq]) {
      if (bytes <= KEPT_BYTES_MAX && this.#bySeq.size <= MOMENTS_MAX) return;
      bytes -= moment.bytes;
      this.close(seq);
    }
  }
}
