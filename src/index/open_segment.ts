/**
 * The segment of the newest events, in memory. Events are found in its columns until it is written; its cells are then
 * made of these columns.
 */

import { CMD } from "../abi/service.ts";
import { effectsIn, hasChanged, openedPeer, touchedKeys, touchedMaps } from "../log/event_subjects.ts";
import type { CellKey } from "../maps/cells.ts";
import { commandFacts } from "../syscall/command_facts.ts";
import type { Out } from "../syscall/outcome.ts";
import { type Bits, SEGMENT_EVENTS } from "./bits.ts";
import { keySizeKey, keysPrefix, peerKey, postingsPrefix, segmentKey, u48Key, type Wanted } from "./facets.ts";
import { keyBytesIn } from "./key_bytes.ts";
import { KeyEntries, type KeyWanted } from "./key_entries.ts";
import {
  CHUNK_EVENTS,
  type Columns,
  hasJoinedOut,
  type IndexedRow,
  isWhole,
  joinedBytes,
  keyBytesOf,
  type LogColumns,
} from "./log_columns.ts";
import { postingsBytes } from "./postings.ts";

/** If an event brings a segment to this many keys, the segment ends after it: events of batches have many keys. */
const KEYS_MAX = 4 * SEGMENT_EVENTS;

/** Bits of an event's flags. */
const FLAGS = { changed: 1, failed: 2, reading: 4 } as const;
type Flag = keyof typeof FLAGS;

const COLUMNS = ["session", "map", "cmd", "errno", "caller"] as const;
type ColumnName = (typeof COLUMNS)[number];

type Touching = Pick<IndexedRow, "cmd" | "map" | "errno" | "key"> & { readonly offset: number };

/** The key size for commands on one element, which nothing reads. */
const noKeySize = (): undefined => undefined;

/** Events of one segment, without a gap from the first on. */
export class OpenSegment {
  readonly first: number;
  /** Sizes of the keys of maps that were created here. */
  readonly keySizes = new Map<number, number>();
  /** The peers of sessions that were opened here. */
  readonly peers = new Map<number, string>();
  readonly #keySizeOf: (map: number) => number | undefined;
  readonly #columns: Readonly<Record<ColumnName, Column>> = {
    session: new Column(),
    map: new Column(),
    cmd: new Column(),
    errno: new Column(),
    caller: new Column(),
  };
  readonly #flags = new Uint8Array(SEGMENT_EVENTS);
  /** Maps that events touched besides the map that each event names. */
  readonly #touched = new Map<number, number[]>();
  readonly #keys = new KeyEntries();
  #count = 0;

  /** `keySizeOf`: the size of the keys of a map that was created before this segment. */
  constructor(first: number, keySizeOf: (map: number) => number | undefined) {
    this.first = first;
    this.#keySizeOf = keySizeOf;
  }

  get count(): number {
    return this.#count;
  }

  /** The segment's last event; if it has none, the event before `first`. */
  get last(): number {
    return this.first + this.#count - 1;
  }

  get isFull(): boolean {
    return this.#count === SEGMENT_EVENTS || this.#keys.count >= KEYS_MAX;
  }

  /** Takes in a chunk of the next events, up to `last` at most. */
  takeIn(log: LogColumns, last: number): void {
    const after = this.last;
    const until = Math.min(last, after + CHUNK_EVENTS, this.first + SEGMENT_EVENTS - 1);
    const columns = log.read(after, until);
    if (columns === null) this.#takeRows(log.rows(after, until), until);
    else this.#takeColumns(columns, log);
  }

  /** Takes in columns. Stops after an event that leaves no room for more keys. */
  #takeColumns(columns: Columns, log: LogColumns): void {
    const { first, sessions, callers, cmds, maps, errnos, lengths, keys, outs } = columns;
    const start = first - this.first;
    const { session, map, cmd, errno, caller } = this.#columns;
    session.fill(start, sessions);
    map.fill(start, maps);
    cmd.fill(start, cmds);
    errno.fill(start, errnos);
    caller.fill(start, callers);
    let keyStart = 0;
    let nextOut = 0;
    for (let at = 0; at < cmds.length && this.#keys.count < KEYS_MAX; at++) {
      const offset = start + at;
      const [number, code, length] = [cmds[at] as number, errnos[at] as number, lengths[at] as number];
      const bytes = keyBytesOf(length);
      const keyEnd = keyStart + joinedBytes(bytes);
      const out = hasJoinedOut(length) ? (outs[nextOut++] as Out) : null;
      const facts = commandFacts(number);
      let flags = code === 0 ? 0 : FLAGS.failed;
      if (facts?.leavesMaps === true) flags |= FLAGS.reading;
      // As hasChanged() has it for an event without effects.
      if (out === null && code === 0 && (facts?.changes ?? null) !== null) flags |= FLAGS.changed;
      this.#flags[offset] = flags;
      if (!isWhole(number, length)) this.#takeRow(log.row(this.first + offset));
      else if (out === null) {
        if (bytes >= 0) this.#keys.add(keys, keyStart, keyEnd, offset);
      } else {
        const key = bytes < 0 ? null : keys.subarray(keyStart, keyEnd);
        this.#takeEffects({ offset, cmd: number, map: maps[at] as number, errno: code, key }, out, noKeySize);
      }
      keyStart = keyEnd;
      this.#count = offset + 1;
    }
  }

  /** Takes in events one by one, because some are missing in the log. The missing ones have no value. */
  #takeRows(rows: Iterable<IndexedRow>, until: number): void {
    const { session, map, cmd, errno, caller } = this.#columns;
    for (const column of [session, map, cmd, errno, caller]) column.fillNone(this.#count, until - this.first + 1);
    for (const row of rows) {
      const offset = row.seq - this.first;
      session.fill(offset, [row.session]);
      map.fill(offset, [row.map]);
      cmd.fill(offset, [row.cmd]);
      errno.fill(offset, [row.errno]);
      caller.fill(offset, [row.caller]);
      this.#takeRow(row);
      this.#count = offset + 1;
      if (this.#keys.count >= KEYS_MAX) return;
    }
    this.#count = until - this.first + 1;
  }

  #takeRow(row: IndexedRow): void {
    const offset = row.seq - this.first;
    const effects = effectsIn(row);
    this.#flags[offset] =
      (row.errno === 0 ? 0 : FLAGS.failed) | (commandFacts(row.cmd)?.leavesMaps === true ? FLAGS.reading : 0);
    if (row.cmd === CMD.BPF_MAP_CREATE && row.map !== 0) this.#noteKeySize(row);
    if (row.cmd === CMD.SESSION_OPEN) this.#notePeer(row, effects);
    const sizeOf = (map: number): number | undefined =>
      this.keySizes.get(map) ?? this.#keySizeOf(map) ?? keyBytesIn(row);
    this.#takeEffects({ offset, ...row }, effects, sizeOf);
  }

  /** Takes in the maps and keys that an event touched, and whether it changed something. */
  #takeEffects(event: Touching, effects: Out | null, keySizeOf: (map: number) => number | undefined): void {
    const { offset } = event;
    for (const map of touchedMaps(event, effects)) if (map !== event.map) push(this.#touched, map, offset);
    if (hasChanged(event, effects)) this.#flags[offset] = (this.#flags[offset] as number) | FLAGS.changed;
    for (const key of touchedKeys(event, effects, keySizeOf)) this.#keys.add(key, 0, key.length, offset);
  }

  #noteKeySize({ map, attr }: IndexedRow): void {
    const { key_size: size } = JSON.parse(attr ?? "{}");
    if (typeof size === "number") this.keySizes.set(map, size);
  }

  #notePeer(row: IndexedRow, effects: Out | null): void {
    const opened = openedPeer(row, effects);
    if (opened !== null) this.peers.set(opened.session, opened.peer);
  }

  /** Adds the events that have a value. */
  add({ facet, value }: Wanted, bits: Bits): void {
    if (facet === "changed" || facet === "failed" || facet === "reading") {
      const flag = FLAGS[facet];
      for (let at = 0; at < this.#count; at++) if (((this.#flags[at] as number) & flag) !== 0) bits.add(at);
      return;
    }
    this.#columns[facet].add(value, this.#count, bits);
    if (facet === "map") for (const at of this.#touched.get(value as number) ?? []) bits.add(at);
  }

  /** Adds the events that may have a key with a beginning. */
  addKeys(wanted: KeyWanted, bits: Bits): void {
    this.#keys.addFound(wanted, bits);
  }

  /** The cells that the index stores for this segment. */
  *cells(): Iterable<readonly [CellKey, Buffer]> {
    const end = u48Key(this.first);
    yield [segmentKey(this.first), Buffer.from(u48Key(this.last), "latin1")];
    for (const [map, size] of this.keySizes) yield [keySizeKey(map), Buffer.from(u48Key(size), "latin1")];
    for (const [session, peer] of this.peers) yield [peerKey(session), Buffer.from(peer)];
    for (const [prefix, offsets] of this.#postings()) yield [prefix + end, postingsBytes(offsets)];
    const keys = keysPrefix(this.first);
    for (const [rest, bytes] of this.#keys.blocks()) yield [keys + rest, bytes];
  }

  *#postings(): Iterable<readonly [prefix: CellKey, offsets: Uint16Array]> {
    for (const facet of Object.keys(FLAGS) as Flag[]) {
      const offsets = this.#flagged(FLAGS[facet]);
      if (offsets.length > 0) yield [postingsPrefix(facet, 0), offsets];
    }
    for (const facet of COLUMNS) yield* this.#postingsOf(facet);
  }

  *#postingsOf(facet: ColumnName): Iterable<readonly [prefix: CellKey, offsets: Uint16Array]> {
    // Long callers' names are cut, so two of them may be the same.
    const byPrefix = new Map<CellKey, Uint16Array>();
    const add = (value: number | string, offsets: Uint16Array | readonly number[]): void => {
      const prefix = postingsPrefix(facet, value);
      const known = byPrefix.get(prefix);
      if (known !== undefined) byPrefix.set(prefix, merged(known, offsets));
      else byPrefix.set(prefix, offsets instanceof Uint16Array ? offsets : merged([], offsets));
    };
    for (const [value, offsets] of this.#columns[facet].postings(this.#count)) {
      // Most events have errno 0, so it has no postings: it is found as the events that have not failed.
      if ((facet === "errno" && value === 0) || offsets.length === 0) continue;
      add(value, offsets);
    }
    if (facet === "map") for (const [map, offsets] of this.#touched) add(map, offsets);
    yield* byPrefix;
  }

  #flagged(flag: number): Uint16Array {
    const offsets = new Uint16Array(this.#count);
    let end = 0;
    for (let at = 0; at < this.#count; at++) if (((this.#flags[at] as number) & flag) !== 0) offsets[end++] = at;
    return offsets.subarray(0, end);
  }
}

const NONE = 0xffff_ffff;

/** The values of one column, as codes in the order in which the values came. */
class Column {
  readonly #codes = new Uint32Array(SEGMENT_EVENTS);
  readonly #values: (number | string)[] = [];
  readonly #codeOf = new Map<number | string, number>();

  fill(start: number, values: readonly (number | string)[]): void {
    let last: number | string | undefined;
    let code = 0;
    for (let at = 0; at < values.length; at++) {
      const value = values[at] as number | string;
      if (value !== last) {
        code = this.#code(value);
        last = value;
      }
      this.#codes[start + at] = code;
    }
  }

  fillNone(start: number, end: number): void {
    this.#codes.fill(NONE, start, end);
  }

  #code(value: number | string): number {
    const known = this.#codeOf.get(value);
    if (known !== undefined) return known;
    this.#codeOf.set(value, this.#values.length);
    return this.#values.push(value) - 1;
  }

  add(value: number | string, count: number, bits: Bits): void {
    const code = this.#codeOf.get(value);
    if (code === undefined) return;
    for (let at = 0; at < count; at++) if (this.#codes[at] === code) bits.add(at);
  }

  /** The offsets of each value, ascending. */
  *postings(count: number): Iterable<readonly [number | string, Uint16Array]> {
    const ends = new Uint32Array(this.#values.length);
    const codes = this.#codes.subarray(0, count);
    for (const code of codes) if (code !== NONE) ends[code] = (ends[code] as number) + 1;
    for (let code = 1; code < ends.length; code++) ends[code] = (ends[code] as number) + (ends[code - 1] as number);
    const starts = new Uint32Array(ends.length);
    for (let code = 1; code < ends.length; code++) starts[code] = ends[code - 1] as number;
    const next = starts.slice();
    const offsets = new Uint16Array(count);
    for (let at = 0; at < count; at++) {
      const code = codes[at] as number;
      if (code === NONE) continue;
      const place = next[code] as number;
      offsets[place] = at;
      next[code] = place + 1;
    }
    for (const [code, value] of this.#values.entries()) yield [value, offsets.subarray(starts[code], ends[code])];
  }
}

function push(lists: Map<number, number[]>, name: number, item: number): void {
  const list = lists.get(name);
  if (list === undefined) lists.set(name, [item]);
  else list.push(item);
}

/** Joins offsets: ascending, without duplicates. */
function merged(one: Uint16Array | readonly number[], other: Uint16Array | readonly number[]): Uint16Array {
  return Uint16Array.from(new Set([...one, ...other])).sort();
}
