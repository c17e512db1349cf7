/**
 * Moments that readers of long maps go back to: the cells of one map as they were right after an event. A page of
 * elements has at most 4,096; the next pages are read as of the event of the first. The engine keeps each cell of that
 * map that changes meanwhile as it was, up to 64 MiB for all readers and 10 s without a read. Later pages come from the
 * thread of the past, which has every moment but may be far behind a busy log.
 */

import sortedBtree from "sorted-btree";
import { CMD } from "../abi/service.ts";
import { afterPrefix, type Cell, type CellKey, type Cells, compareKeys } from "../maps/cells.ts";
import { elementsPrefix } from "../maps/common.ts";
import type { Host } from "../maps/map.ts";
import { elements } from "../syscall/elements.ts";
import { mapCell } from "../syscall/map_table.ts";
import { OBJECTS } from "../syscall/objects.ts";
import type { Outcome } from "../syscall/outcome.ts";
import { State } from "../syscall/state.ts";
import { IGNORE } from "./followers.ts";
import { overlaid } from "./overlaid.ts";
import type { Clock } from "./ports.ts";

/** What moments keep of what has changed since, all of them: beyond that the one read longest ago is let go. */
const KEPT_BYTES_MAX = 64 * 1024 * 1024;
/** So many readers at once have one. */
const MOMENTS_MAX = 64;
/** One that nobody reads from is let go after this time. */
const UNUSED_MS = 10_000;
/** What a kept cell takes beside its bytes, about. */
const CELL_BYTES = 100;

/** Cells that tell of each change before it is made. */
export interface ChangingCells extends Pick<Cells, "get" | "range"> {
  /** `before` is called with each key that is about to change, until the function that is answered is called. */
  onChange(before: (key: CellKey) => void): () => void;
}

/**
 * The elements of one map as they were right after an event, while commands go on: what changes is kept as it was. Whoever reads them
 * needs no past, which may be far behind a busy log, and holds up nobody.
 */
class Moment implements Cells {
  readonly #now: ChangingCells;
  readonly #from: CellKey;
  readonly #to: CellKey;
  readonly #mapKey: CellKey;
  readonly #state: State;
  readonly #before = new sortedBtree.default<CellKey, Buffer | null>(undefined, compareKeys);
  readonly #stop: () => void;
  readonly map: number;
  bytes = 0;
  usedMs: number;

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

  /** A page behind the key `after`. */
  read(after: Buffer | null, limit: number): Outcome {
    const target = { by: "id", id: this.map } as const;
    return elements(this.#state, {
      cmd: CMD.MAP_ELEMENTS,
      session: 0,
      caller: "",
      timeUs: 0,
      target,
      attr: { after, limit },
    });
  }

  close(): void {
    this.#stop();
  }

  get(key: CellKey): Buffer | undefined {
    const before = this.#before.get(key);
    return before === undefined ? this.#now.get(key) : (before ?? undefined);
  }

  /** What was kept over what is as it was. */
  range(from: CellKey, to: CellKey): Iterable<Cell> {
    return overlaid(this.#before.entries(from), this.#now.range(from, to), to);
  }

  put(): void {
    throw new Error("what was is not changed");
  }

  delete(): void {
    throw new Error("what was is not changed");
  }

  /** Elements, their map, and what they refer to that is no map. */
  #keep(key: CellKey): void {
    const isObject = key.startsWith(OBJECTS);
    if (!isObject && key !== this.#mapKey && (key < this.#from || key >= this.#to)) return;
    if (this.#before.has(key)) return;
    const before = this.#now.get(key) ?? null;
    if (isObject && before === null) return;
    this.#before.set(key, before);
    this.bytes += CELL_BYTES + (before?.length ?? 0);
  }
}

/** Moments by the event that each is right after, for as long as somebody reads from them. */
export class Moments {
  readonly #cells: ChangingCells;
  readonly #host: Host;
  readonly #clock: Pick<Clock, "nowMs">;
  /** The one read longest ago comes first. */
  readonly #bySeq = new Map<number, Moment>();

  constructor(cells: ChangingCells, host: Host, clock: Pick<Clock, "nowMs">) {
    this.#cells = cells;
    this.#host = host;
    this.#clock = clock;
  }

  get count(): number {
    return this.#bySeq.size;
  }

  /** From now on a map's elements can be read as they are at present, right after the event `seq`. */
  open(seq: number, map: number): void {
    this.#bySeq.set(seq, new Moment(this.#cells, map, this.#host, this.#clock.nowMs()));
    this.trim();
  }

  /** The elements behind the key `after`, at most `limit`; null: this moment is not kept, or not any more. */
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

  /** Those of events from `seq` on have not happened. */
  closeFrom(seq: number): void {
    for (const [one] of [...this.#bySeq]) if (one >= seq) this.close(one);
  }

  /** Lets go of those that nobody reads from, or that keep too much. */
  trim(): void {
    if (this.#bySeq.size === 0) return;
    const nowMs = this.#clock.nowMs();
    let bytes = 0;
    for (const [, moment] of this.#bySeq) bytes += moment.bytes;
    for (const [seq, moment] of [...this.#bySeq]) {
      if (nowMs - moment.usedMs <= UNUSED_MS && bytes <= KEPT_BYTES_MAX && this.#bySeq.size <= MOMENTS_MAX) return;
      bytes -= moment.bytes;
      this.close(seq);
    }
  }
}
