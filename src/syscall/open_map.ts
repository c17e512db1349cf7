import type { Cells } from "../maps/cells.ts";
import type { Element, Host, MapRecord, MapStore, MapType, World } from "../maps/map.ts";
import type { Refusal } from "../maps/refusal.ts";
import { mapType } from "../maps/types.ts";
import type { Effect } from "./effects.ts";
import type { ElementCounts } from "./element_counts.ts";
import type { Follower } from "./follower.ts";

/** The way by which a map is opened: a session's descriptor, or the operator's view, which allows everything. */
export interface Access {
  readonly session: number;
  readonly file: number;
  readonly readable: boolean;
  readonly writable: boolean;
}

export const OPERATOR: Access = { session: 0, file: 0, readable: true, writable: true };

/** The part of an event beyond its command that replays and watches need. */
interface Effects {
  readonly keys: Buffer[];
  readonly values: Buffer[];
  shown: Buffer | null;
  emptied: boolean;
  /** With the number of elements that the command had stored before. */
  readonly evicted: [after: number, key: Buffer][];
  readonly knownAs: [after: number, key: Buffer][];
}

/** The tables that an open map uses. */
export interface MapTables {
  readonly cells: Cells;
  readonly host: Host;
  readonly world: World;
  readonly counts: Pick<ElementCounts, "of" | "set" | "growth">;
  readonly follower: Pick<Follower, "changed">;
}

/** A map opened for an operation. */
export class OpenMap implements MapStore {
  readonly map: MapRecord;
  readonly type: MapType;
  readonly cells: Cells;
  readonly host: Host;
  readonly world: World;
  readonly session: number;
  readonly file: number;
  readonly readable: boolean;
  /** The open file's own mode; freezing removes `writable` from every one. */
  readonly openedWritable: boolean;
  readonly writable: boolean;
  readonly #tables: MapTables;
  readonly #gone: (key: Buffer) => void;
  #deferredCount: number | null = null;
  #effects: Effects | null = null;
  /** Of an update: BPF_NOEXIST, BPF_EXIST or 0. */
  updateFlags = 0;
  /** The command has written or deleted an element. */
  isChanged = false;
  /** The kernel map has the elements already: quotas do not apply. */
  isImported = false;
  /** The number of elements that the command has stored or deleted so far. */
  at = 0;

  /** `gone`: called for each deleted element. */
  constructor(tables: MapTables, map: MapRecord, access: Access, gone: (key: Buffer) => void = () => {}) {
    this.#tables = tables;
    this.#gone = gone;
    this.map = map;
    this.type = mapType(map.type) as MapType;
    this.cells = tables.cells;
    this.host = tables.host;
    this.world = tables.world;
    this.session = access.session;
    this.file = access.file;
    this.readable = access.readable;
    this.openedWritable = access.writable;
    this.writable = access.writable && !map.frozen;
  }

  entryCount(): number {
    return this.#deferredCount ?? this.#tables.counts.of(this.map.id);
  }

  setEntryCount(count: number): void {
    if (this.#deferredCount === null) this.#tables.counts.set(this.map, this.type, count);
    else this.#deferredCount = count;
  }

  growth(): Refusal | null {
    if (this.isImported) return null;
    const { counts } = this.#tables;
    return counts.growth(
      this.map,
      this.type,
      this.#deferredCount === null ? 0 : this.#deferredCount - counts.of(this.map.id),
    );
  }

  /** Runs many changes and writes the count once after them. */
  deferCount<Answer>(change: () => Answer): Answer {
    const before = this.entryCount();
    this.#deferredCount = before;
    const answer = change();
    const after = this.#deferredCount;
    this.#deferredCount = null;
    if (after !== before) this.setEntryCount(after);
    return answer;
  }

  get valueBytes(): number {
    return this.type.valueBytes(this.map, this.host);
  }

  /** Applies the effects that an event records. */
  apply(effects: Iterable<Effect>): void {
    for (const effect of effects) {
      if (effect.kind === "put") this.type.put(this, effect.key, effect.value);
      else this.type.remove(this, effect.key);
    }
  }

  changed(map: MapRecord, key: Buffer, value: Buffer | null): void {
    this.isChanged = true;
    if (value === null) this.#gone(key);
    this.#tables.follower.changed(map, key, value, value === null ? 0 : this.updateFlags);
  }

  stored(key: Buffer, value: Buffer | null): void {
    const noted = this.#noted();
    noted.keys.push(key);
    if (value === null) return;
    noted.values.push(value);
    const cell = this.type.cellOf(this.map, key);
    const { value: shown } = this.type.element(this, cell, this.cells.get(cell)) as Element;
    if (!value.subarray(0, shown.length).equals(shown)) noted.shown = shown;
  }

  emptied(key: Buffer): void {
    const noted = this.#noted();
    noted.keys.push(key);
    noted.emptied = true;
  }

  evicted(key: Buffer): void {
    this.#noted().evicted.push([this.at, key]);
  }

  knownAs(key: Buffer): void {
    this.#noted().knownAs.push([this.at, key]);
  }

  /** null: command and errno say everything. */
  get effects(): Effects | null {
    return this.#effects;
  }

  #noted(): Effects {
    this.#effects ??= { keys: [], values: [], shown: null, emptied: false, evicted: [], knownAs: [] };
    return this.#effects;
  }
}
