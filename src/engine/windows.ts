/**
 * The window of a kernel map: the elements that the ledger changed after the map's place, which is the event up to
 * which the kernel map has followed (`mirror/progress_map.ts`), each with its value before. A recovery notes windows
 * while it does events again. Older ones come from the thread of the past (`asked_past.ts`). Only elements in the
 * window can lag behind the ledger; any other difference was made by somebody else (`drift.ts`).
 */

import { CMD } from "../abi/service.ts";
import type { Event } from "../log/event.ts";
import type { CellKey } from "../maps/cells.ts";
import type { MapRecord, MapType } from "../maps/map.ts";
import { mapType } from "../maps/types.ts";
import type { CreateCommand } from "../syscall/command.ts";
import { effectsOn } from "../syscall/effects.ts";
import { OPERATOR, OpenMap } from "../syscall/open_map.ts";
import type { State } from "../syscall/state.ts";
import type { Lagging } from "./ports.ts";

/**
 * What the ledger did to a map since its kernel map had all of it: which elements, with what they were then. `born`: the map
 * itself came since then, so that no element was there. null: not known.
 */
export type Window = readonly Lagging[] | "born" | null;

/** Pins and maps that the state no longer has, and the kernel maps may have still. */
export interface Stale {
  readonly maps: ReadonlySet<number>;
  readonly pins: readonly { readonly pathname: string; readonly map: number }[];
}

/** The past of maps, told by whoever keeps it. Null: events of that time are archived. */
export interface PastOfMaps {
  /** What became of a map's elements after an event, up to the last one. */
  since(map: number, seq: number): Promise<Window>;
  /** The maps and pins that there were right after an event. */
  stood(seq: number): Promise<{ readonly maps: readonly number[]; readonly pins: Stale["pins"] } | null>;
}

/** Elements that are kept at most: beyond, the past is asked. */
const KEPT_MAX = 1_000_000;

/**
 * What a recovery does again that kernel maps may not have: the elements that events behind a map's place change are noted with
 * what they are before that. It costs nothing where the kernel maps have come to the log's end, and little after a kill, which
 * they are a batch behind at most.
 */
export class Windows {
  readonly #state: State;
  readonly #placeOf: (mapId: number) => number | null;
  readonly #from: number;
  readonly #kept = new Map<number, Map<CellKey, Lagging>>();
  readonly #born = new Set<number>();
  readonly #freed = new Set<number>();
  readonly #unpinned = new Map<string, number>();
  readonly #carried: number | null;
  #count = 0;

  /** `from`: the event that the state has come to before anything is done again; `carried`: that which all kernel maps have. */
  constructor(state: State, from: number, carried: number | null, placeOf: (mapId: number) => number | null) {
    this.#state = state;
    this.#from = from;
    this.#carried = carried;
    this.#placeOf = placeOf;
  }

  /** To be told of each event before it is done again. */
  before({ seq, command, outcome }: Event): void {
    if (this.#carried === null || seq <= Math.min(this.#carried, this.#from)) return;
    const { out } = outcome;
    if (seq > this.#carried) {
      for (const map of out?.freed ?? []) this.#freed.add(map);
      if (command.cmd === CMD.UNLINK && outcome.errno === 0) this.#unpinned.set(out?.pathname as string, outcome.map);
    }
    if (command.cmd === CMD.BPF_MAP_CREATE && outcome.errno === 0)
      this.#create(seq, command as CreateCommand, outcome.map);
    for (const id of new Set([outcome.map, ...(out?.gone ?? []).map(([map]) => map)])) {
      const map = this.#state.map(id);
      const place = map === undefined ? null : this.#placeOf(id);
      if (map !== undefined && place !== null && seq > place) this.#note(map, { seq, command, outcome });
    }
  }

  /** The kernel map of one that was adopted was there before, with all its elements. */
  #create(seq: number, { attr }: CreateCommand, map: number): void {
    const place = this.#placeOf(map);
    if (place !== null && seq > place && attr.adopted === undefined) this.#born.add(map);
  }

  /** What was imported, the kernel map had: from there on it lacks what comes later. */
  #note(map: MapRecord, { command, outcome }: Event): void {
    const type = mapType(map.type) as MapType;
    const open = new OpenMap(this.#state, map, OPERATOR);
    const kept = this.#kept.get(map.id) ?? new Map<CellKey, Lagging>();
    this.#kept.set(map.id, kept);
    const shape = { map, valueBytes: type.valueBytes(map, this.#state.host) };
    for (const { key } of effectsOn(shape, command, outcome)) {
      const cell = type.cellOf(map, key);
      if (command.imported === true) kept.delete(cell);
      if (command.imported === true || kept.has(cell)) continue;
      if (++this.#count > KEPT_MAX) return;
      const was = type.element(open, cell, this.#state.cells.get(cell));
      kept.set(cell, { key: Buffer.from(key), before: was === null ? null : Buffer.from(was.value) });
    }
  }

  /** undefined: the past has to be asked, `since` which event. */
  of(mapId: number): Window | { readonly since: number } {
    const place = this.#placeOf(mapId);
    if (place === null) return null;
    if (this.#born.has(mapId)) return "born";
    if (place < this.#from || this.#count > KEPT_MAX) return { since: place };
    return [...(this.#kept.get(mapId)?.values() ?? [])];
  }

  /** null: the past has to be asked, or nobody knows. */
  get stale(): Stale | null {
    if (this.#carried === null || this.#carried < this.#from) return null;
    return { maps: this.#freed, pins: [...this.#unpinned].map(([pathname, map]) => ({ pathname, map })) };
  }
}
