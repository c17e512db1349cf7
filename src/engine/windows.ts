/**
 * The window of a kernel map: the elements that the ledger changed after the map's place, each with its value at the
 * place. The place is the last event that the kernel map has received (`mirror/progress_map.ts`). Only elements in the
 * window can lag behind the ledger; any other difference was made by somebody else (`comparisons.ts`). A recovery notes
 * windows while it redoes events. Windows of events that it does not redo come from the thread of the past
 * (`asked_past.ts`).
 *
 * For example, a kernel map has received events up to 7 when the service is killed:
 *
 *     event 6    k = 1
 *     event 8    k = 2, j = 5    not received
 *
 * The window is k: 1, j: absent. After the start, a kernel map with k = 1 lags, and gets k = 2; k = 3 is another
 * program's change.
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

/** The window of a map. "born": the map was created after its place, so that no element existed. null: unknown. */
export type Window = readonly Lagging[] | "born" | null;

/** Maps and pins that the state no longer has, and that the mirror may have pinned still. */
export interface Stale {
  readonly maps: ReadonlySet<number>;
  readonly pins: readonly { readonly pathname: string; readonly map: number }[];
}

/**
 * Answers from the past of maps. null: the events of that time are archived, or too many elements have changed to list
 * them.
 */
export interface PastOfMaps {
  /** The window of a map whose place is the event `seq`. */
  since(map: number, seq: number): Promise<Window>;
  /** The maps and pins that existed right after an event. */
  stood(seq: number): Promise<{ readonly maps: readonly number[]; readonly pins: Stale["pins"] } | null>;
}

/** The most elements that are noted, for all maps. If there are more, the past is asked. */
const KEPT_MAX = 1_000_000;

/**
 * Notes windows during a recovery: before it redoes an event after a map's place, notes the elements that the event
 * changes. If kernel maps have reached the log's end, there is nothing to note; after a kill they are at most a batch
 * behind.
 */
export class Windows {
  readonly #state: State;
  readonly #placeOf: (mapId: number) => number | null;
  readonly #from: number;
  /** The noted elements, by map and cell. */
  readonly #kept = new Map<number, Map<CellKey, Lagging>>();
  readonly #born = new Set<number>();
  readonly #freed = new Set<number>();
  readonly #unpinned = new Map<string, number>();
  readonly #carried: number | null;
  #count = 0;

  /** `from`: the last event of the stored state. `carried`: the place of all maps that have none of their own. */
  constructor(state: State, from: number, carried: number | null, placeOf: (mapId: number) => number | null) {
    this.#state = state;
    this.#from = from;
    this.#carried = carried;
    this.#placeOf = placeOf;
  }

  /** Call with each event before it is redone. */
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

  /** Notes that a map was born, unless it was adopted: then its kernel map existed before, with all its elements. */
  #create(seq: number, { attr }: CreateCommand, map: number): void {
    const place = this.#placeOf(map);
    if (place !== null && seq > place && attr.adopted === undefined) this.#born.add(map);
  }

  /**
   * Notes the elements that an event changes. Imported elements leave the window, because the kernel map had them
   * first.
   */
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

  /** The window of a map, or `since`, its place: the past must be asked for the window. */
  of(mapId: number): Window | { readonly since: number } {
    const place = this.#placeOf(mapId);
    if (place === null) return null;
    if (this.#born.has(mapId)) return "born";
    if (place < this.#from || this.#count > KEPT_MAX) return { since: place };
    return [...(this.#kept.get(mapId)?.values() ?? [])];
  }

  /** null: these maps and pins were not noted. The past must be asked for them, or nobody knows them. */
  get stale(): Stale | null {
    if (this.#carried === null || this.#carried < this.#from) return null;
    return { maps: this.#freed, pins: [...this.#unpinned].map(([pathname, map]) => ({ pathname, map })) };
  }
}
