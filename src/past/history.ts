/**
 * The history: `redo` of the log over cells that keep every version (`versions.ts`), in a store of its own (`runs/`),
 * so that the state can be read as of any seq. It is computed from the log after its commit, when the log rests or a
 * request comes.
 */

import { setImmediate } from "node:timers/promises";
import { IGNORE } from "../engine/followers.ts";
import { PendingCells } from "../engine/pending.ts";
import type { SortedStore } from "../engine/ports.ts";
import type { Event, EventRow } from "../log/event.ts";
import type { Cell, CellKey, Cells } from "../maps/cells.ts";
import type { Host } from "../maps/map.ts";
import { redo } from "../syscall/execute.ts";
import { State } from "../syscall/state.ts";
import { VersionTable } from "./version_table.ts";
import {
  CellsAsOf,
  type Group,
  groupOf,
  type Image,
  imageAt,
  imageBytes,
  imageKey,
  livingVersions,
  type Version,
  versionKey,
  versionsAfter,
  versionsOf,
} from "./versions.ts";

export type EventOrigin = Pick<EventRow, "seq" | "time_us" | "session" | "caller" | "cmd">;

/** The log as the history reads it, while the engine writes to it. */
export interface PastLog {
  readonly lastSeq: number;
  /** The last archived event, which cannot be read any more; 0: none is archived. */
  readonly archivedThrough: number;
  /** Changes after this seq are read in a moment, from any place on. Earlier ones must be unpacked from an archive. */
  readonly atHandAfter: number;
  /** The changes after a seq, as many as are handled at once; none after `last`. */
  changesAfter(seq: number, last?: number): Changes | Promise<Changes>;
  /** The sender, command and time of an event, which must exist. */
  origin(seq: number): EventOrigin;
  /** The last event with a time at or before `timeUs`, in microseconds since the epoch; 0 if there is none. */
  seqAt(timeUs: number): number;
}

/** The events of a range of the log that may have changed the state, ascending, as redo() takes them. */
export interface Changes {
  readonly events: readonly Event[];
  /** The last seq of the range. If it is the seq that was asked after, the log has no more events. */
  readonly until: number;
}

/** Events that the history has not recorded have been archived. It must begin anew after them. */
export class Overtaken extends Error {
  constructor() {
    super("events have been archived before their history was written");
    this.name = "Overtaken";
  }
}

/** The approximate number of versions in a transaction. */
const WRITE_VERSIONS = 65_536;
/**
 * A group gets a new image if the present one has this many more deleted cells than cells that were copied into it.
 */
const GONE_MAX = 1024;
/** Versions that one transaction copies into a new image. */
const COPY_VERSIONS = 16_384;

/**
 * The versions of all cells. They are made after the commit, from the log, by the same `redo` that recovers the state.
 * `seq` is the last event that is recorded.
 */
export class History {
  readonly #log: PastLog;
  readonly #store: SortedStore;
  readonly #recorder: Recorder;
  readonly #state: State;
  #done: number;
  #working: Promise<void> = Promise.resolve();
  #closing = false;

  constructor(log: PastLog, store: SortedStore, host: Host) {
    this.#log = log;
    this.#store = store;
    this.#recorder = new Recorder(store);
    this.#state = new State(this.#recorder, host, IGNORE);
    this.#done = store.seq;
  }

  /** The last recorded event. */
  get seq(): number {
    return this.#store.seq;
  }

  /** The cells right after a recorded event. */
  at(seq: number): Cells {
    return new CellsAsOf(this.#store, seq);
  }

  /** Versions of a cell, from `seq` down. */
  versions(cell: CellKey, seq: number): Iterable<Version> {
    return versionsOf(this.#store, cell, seq);
  }

  /** Versions of a cell after `seq`, ascending. */
  versionsAfter(cell: CellKey, seq: number): Iterable<Version> {
    return versionsAfter(this.#store, cell, seq);
  }

  /** Records events up to `seq`. Rejects if the store fails; events that were recorded before stay. */
  reach(seq: number): Promise<void> {
    this.#working = this.#working.catch(() => {}).then(() => this.#reach(seq));
    return this.#working;
  }

  async #reach(seq: number): Promise<void> {
    while (this.#store.seq < seq) {
      if (this.#closing) throw new Error("the history is being closed");
      const { events, until } = await this.#log.changesAfter(this.#done);
      // Checked after the read, because events may be archived at any time.
      if (this.#done < this.#log.archivedThrough) throw new Overtaken();
      if (until === this.#done && until < seq) throw new Error(`reading the log: it ends at ${until}, before ${seq}`);
      for (const event of events) {
        this.#takeIn(event);
        // One event may have ten thousand elements.
        if (this.#recorder.size >= WRITE_VERSIONS && !this.#closing) await this.#write();
      }
      this.#done = until;
      if (this.#recorder.size >= WRITE_VERSIONS || this.#recorder.isCrowded || this.#done >= seq) await this.#write();
      else await setImmediate();
    }
  }

  #takeIn({ seq, command, outcome }: Event): void {
    redo(this.#state, command, outcome);
    this.#recorder.settle(seq);
    this.#done = seq;
  }

  async #write(): Promise<void> {
    const crowded = this.#recorder.crowded();
    await this.#recorder.write(this.#done);
    for (const group of crowded) await this.#recorder.renew(group);
  }

  /** An interrupted recording starts anew the next time. */
  async close(): Promise<void> {
    this.#closing = true;
    await this.#working.catch(() => {});
    await this.#store.close();
  }
}

/** The newest versions as writable cells. `settle` turns an event's writes into versions. */
class Recorder implements Cells {
  readonly #store: SortedStore;
  readonly #cells: PendingCells;
  /**
   * The store's cells as of now. For each group it reads the image that was the newest when the group was first read.
   */
  #latest: CellsAsOf;
  readonly #newest = new Map<Group, Image>();
  /** Groups in whose newest image cells were deleted since the last write. */
  readonly #grown = new Set<Group>();
  /** The changes of the present event. */
  #changed = new Map<CellKey, Buffer | null>();
  #versions = new VersionTable();

  constructor(store: SortedStore) {
    this.#store = store;
    this.#latest = new CellsAsOf(store, Number.MAX_SAFE_INTEGER);
    this.#cells = new PendingCells({
      get: (key) => this.#latest.get(key),
      range: (from, to) => this.#latest.range(from, to),
      // Recorder.write() has stored the versions before.
      write: () => Promise.resolve(),
      get seq() {
        return store.seq;
      },
    });
  }

  /** The number of versions that are not written yet. */
  get size(): number {
    return this.#versions.size;
  }

  get(key: CellKey): Buffer | undefined {
    return this.#cells.get(key);
  }

  put(key: CellKey, value: Buffer): void {
    this.#cells.put(key, value);
    this.#changed.set(key, value);
  }

  delete(key: CellKey): void {
    this.#cells.delete(key);
    this.#changed.set(key, null);
  }

  range(from: CellKey, to: CellKey): Iterable<Cell> {
    return this.#cells.range(from, to);
  }

  /** Ends the present event. */
  settle(seq: number): void {
    for (const [cell, bytes] of this.#changed) {
      const group = groupOf(cell);
      const image = this.#image(group);
      this.#versions.addVersion(cell, image.start, seq, bytes);
      if (bytes !== null) continue;
      this.#newest.set(group, { ...image, gone: image.gone + 1 });
      this.#grown.add(group);
    }
    this.#changed.clear();
    this.#cells.settle();
  }

  /** Writes the recorded versions. If the store fails, they are pending again. */
  async write(seq: number): Promise<void> {
    for (const group of this.#grown) {
      const image = this.#image(group);
      this.#versions.addCell(imageKey(group, image.start), imageBytes(image));
    }
    try {
      await this.#store.write(this.#versions, seq, this.#versions.bytes);
    } catch (error) {
      this.#versions.removeLast(this.#grown.size);
      throw error;
    }
    this.#grown.clear();
    this.#versions = new VersionTable();
    await this.#cells.write(seq, () => {});
  }

  get isCrowded(): boolean {
    return this.crowded().length > 0;
  }

  /** Groups with more deleted cells than a walk should skip. */
  crowded(): readonly Group[] {
    return [...this.#grown].filter((group) => {
      const { copied, gone } = this.#image(group);
      return gone > copied + GONE_MAX;
    });
  }

  /**
   * Makes a new image of a group, in several transactions; it is used only once it is complete. Nothing else may be
   * pending.
   */
  async renew(group: Group): Promise<void> {
    const { start: old } = this.#image(group);
    const start = this.#store.seq;
    let copied = 0;
    for (let after: CellKey | null = null; ; ) {
      const living = livingVersions(this.#store, group, old, after, COPY_VERSIONS);
      copied += living.length;
      after = living.at(-1)?.[0][0] ?? null;
      const copies = living.map(([[cell, bytes], seq]) => [versionKey(cell, start, seq, true), bytes] as const);
      const image = { start, copied, gone: 0 };
      const last = living.length < COPY_VERSIONS;
      // The table of images sorts before all others.
      if (last) copies.unshift([imageKey(group, start), imageBytes(image)]);
      await this.#store.write(copies, start, byteLengthOf(copies));
      if (!last) continue;
      this.#newest.set(group, image);
      this.#latest = new CellsAsOf(this.#store, Number.MAX_SAFE_INTEGER);
      return;
    }
  }

  #image(group: Group): Image {
    let image = this.#newest.get(group);
    if (image === undefined) {
      image = imageAt(this.#store, group, Number.MAX_SAFE_INTEGER);
      this.#newest.set(group, image);
    }
    return image;
  }
}

function byteLengthOf(cells: readonly (readonly [CellKey, Buffer])[]): number {
  return cells.reduce((sum, [key, bytes]) => sum + key.length + bytes.length, 0);
}
