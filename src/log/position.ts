import { hash } from "node:crypto";
import { HASH_BYTES } from "../tlog/merkle.ts";
import { CanonicalWriter, type RowBytes, rowBytes } from "./canonical.ts";
import type { EventRow } from "./event.ts";

/** Which ledger a position is in: the facts `id` and `life`. */
export interface Ledger {
  readonly id: string;
  readonly life: string;
}

/** A point in a log, and what it takes to know the log again. */
export interface Position {
  /** Six bytes each in hex: see `ledgerKey`. */
  readonly log: string;
  readonly life: string;
  /** The event that it stands at; 0: in front of all. */
  readonly seq: number;
  /** That event's mark; 0 in front of all. */
  readonly mark: number;
  /** The map whose watch it is of, or that a filter meant by a name or a pin; null: it is one in the log. */
  readonly map: number | null;
  readonly place: Place;
}

/**
 * `at`: it names the event. `behind`: it stands between that event and the next one, which may not be there yet. `snapshot`: in
 * front of a snapshot's end. `changes`: behind so many changes that the event has made, with more to come.
 */
type Place = "at" | "behind" | "snapshot" | { readonly changes: number };

const LAYOUT = 0x10;
const PLACES = { at: 0, behind: 1, snapshot: 2, changes: 3 } as const;
const PLACE_BITS = 3;
const OF_MAP = 8;
const PART_BYTES = 6;
const LOG_AT = 1;
const LIFE_AT = LOG_AT + PART_BYTES;
const SEQ_AT = LIFE_AT + PART_BYTES;
const MARK_AT = SEQ_AT + PART_BYTES;
const MAP_AT = MARK_AT + PART_BYTES;
const CHANGES_AT = MAP_AT + 4;
const CHECK_BYTES = 4;
const TEXT = /^[A-Za-z0-9_-]{39,60}$/;

/**
 * Writes positions of one ledger as texts: base64url of
 *
 *      0 u8 0x10, and the place: 0 at an event, 1 behind one, 2 in a snapshot, 3 within an event; 8 more: it is of a map
 *      1 6 bytes of the log's id; 6 of SHA-256 of its life
 *     13 u48 seq
 *     19 u48 mark of that event
 *        u32 map, if it is of one
 *        u32 changes, within an event
 *        4 bytes of SHA-256 of all before them: a text that was cut or garbled is none
 *
 * Integers are big-endian. No text is all digits, so that none is taken for a seq.
 */
export class PositionWriter {
  readonly #bytes: Buffer;
  readonly #map: number | null;

  /** `map`: of whose watch, or by whose name or pin, the positions are told; null: they are of the log. */
  constructor(ledger: Ledger, map: number | null = null) {
    this.#map = map;
    this.#bytes = Buffer.alloc(CHANGES_AT + 4 + CHECK_BYTES);
    const { log, life } = ledgerKey(ledger);
    this.#bytes.write(log, LOG_AT, "hex");
    this.#bytes.write(life, LIFE_AT, "hex");
  }

  /** Of an event: all of it has been told. */
  at(seq: number, mark: number): string {
    return this.#text(PLACES.at, seq, mark);
  }

  /** Between an event and the one that comes next. */
  behind(seq: number, mark: number): string {
    return this.#text(PLACES.behind, seq, mark);
  }

  snapshot(seq: number, mark: number): string {
    return this.#text(PLACES.snapshot, seq, mark);
  }

  /** So many changes of that event to the map have been told. */
  changes(seq: number, mark: number, changes: number): string {
    this.#bytes.writeUInt32BE(changes, CHANGES_AT);
    return this.#text(PLACES.changes, seq, mark);
  }

  #text(place: number, seq: number, mark: number): string {
    const bytes = this.#bytes;
    const end = endOf(place, this.#map !== null);
    bytes[0] = LAYOUT | place | (this.#map === null ? 0 : OF_MAP);
    bytes.writeUIntBE(seq, SEQ_AT, PART_BYTES);
    bytes.writeUIntBE(mark, MARK_AT, PART_BYTES);
    if (this.#map !== null) bytes.writeUInt32BE(this.#map, MAP_AT);
    bytes.write(check(bytes.subarray(0, end)), end, "hex");
    return bytes.toString("base64url", 0, end + CHECK_BYTES);
  }
}

/** null: it is none, or not whole. */
export function parsePosition(text: string): Position | null {
  const bytes = TEXT.test(text) ? checkedBytes(text) : null;
  if (bytes === null) return null;
  const kind = bytes[0] as number;
  const place = kind & PLACE_BITS;
  const isOfMap = (kind & OF_MAP) !== 0;
  if ((kind & ~(PLACE_BITS | OF_MAP)) !== LAYOUT || bytes.length !== endOf(place, isOfMap)) return null;
  // Within a snapshot or an event a watch alone stands.
  if (!isOfMap && (place === PLACES.snapshot || place === PLACES.changes)) return null;
  return {
    log: bytes.toString("hex", LOG_AT, LIFE_AT),
    life: bytes.toString("hex", LIFE_AT, SEQ_AT),
    seq: bytes.readUIntBE(SEQ_AT, PART_BYTES),
    mark: bytes.readUIntBE(MARK_AT, PART_BYTES),
    map: isOfMap ? bytes.readUInt32BE(MAP_AT) : null,
    place: placeOf(place, bytes),
  };
}

function endOf(place: number, isOfMap: boolean): number {
  if (place === PLACES.changes) return CHANGES_AT + 4;
  return isOfMap ? CHANGES_AT : MAP_AT;
}

function placeOf(place: number, bytes: Buffer): Place {
  if (place === PLACES.changes) return { changes: bytes.readUInt32BE(CHANGES_AT) };
  if (place === PLACES.snapshot) return "snapshot";
  return place === PLACES.behind ? "behind" : "at";
}

/** A place among a map's elements: behind the one with a key. */
export interface KeyPlace {
  readonly log: string;
  readonly life: string;
  readonly map: number;
  readonly key: Buffer;
}

const KEY_LAYOUT = 0x20;
const KEY_MAP_AT = SEQ_AT;
const KEY_AT = KEY_MAP_AT + 4;
const BASE64URL = /^[A-Za-z0-9_-]+$/;

/** base64url of u8 0x20, log and life as a position has them, u32 map, the key, and 4 bytes of SHA-256 of all that. */
export function keyPlaceText(ledger: Ledger, map: number, key: Buffer): string {
  const { log, life } = ledgerKey(ledger);
  const place = Buffer.alloc(4);
  place.writeUInt32BE(map);
  const bytes = Buffer.concat([Buffer.from([KEY_LAYOUT]), Buffer.from(log + life, "hex"), place, key]);
  return Buffer.concat([bytes, Buffer.from(check(bytes), "hex")]).toString("base64url");
}

/** null: it is none, or not whole. */
export function parseKeyPlace(text: string): KeyPlace | null {
  const bytes = BASE64URL.test(text) ? checkedBytes(text) : null;
  if (bytes === null || bytes[0] !== KEY_LAYOUT || bytes.length < KEY_AT) return null;
  return {
    log: bytes.toString("hex", LOG_AT, LIFE_AT),
    life: bytes.toString("hex", LIFE_AT, SEQ_AT),
    map: bytes.readUInt32BE(KEY_MAP_AT),
    key: bytes.subarray(KEY_AT),
  };
}

/** What stands in a text in front of its check; null: that does not fit. */
function checkedBytes(text: string): Buffer | null {
  const bytes = Buffer.from(text, "base64url");
  if (bytes.length <= CHECK_BYTES || bytes.toString("base64url") !== text) return null;
  const end = bytes.length - CHECK_BYTES;
  return check(bytes.subarray(0, end)) === bytes.toString("hex", end) ? bytes.subarray(0, end) : null;
}

function check(bytes: Buffer): string {
  return hash("sha256", bytes, "hex").slice(0, 2 * CHECK_BYTES);
}

/**
 * What positions have of their ledger. Of the life a hash: the life itself is the key of the marks, and is told to nobody who may not see
 * every event.
 */
export function ledgerKey({ id, life }: Ledger): Pick<Position, "log" | "life"> {
  return {
    log: id
      .replaceAll("-", "")
      .slice(0, 2 * PART_BYTES)
      .padStart(2 * PART_BYTES, "0"),
    life: hash("sha256", life, "hex").slice(0, 2 * PART_BYTES),
  };
}

/**
 * An event's mark: 48 bits of SHA-256(life || leaf hash), by which another event with its seq is told from it. Not of the leaf hash alone:
 * a position may stand at an event that its reader is not to see, and guesses at what that is could be checked.
 */
export class Marks {
  readonly #canonical = new CanonicalWriter();
  /** The life, and behind it a leaf hash. */
  readonly #bytes: Buffer;
  readonly #leafAt: number;

  constructor(life: string) {
    const key = Buffer.from(life);
    this.#leafAt = key.length;
    this.#bytes = Buffer.concat([key, Buffer.alloc(HASH_BYTES)]);
  }

  of(row: RowBytes): number {
    this.#canonical.leafHash(row, this.#bytes, this.#leafAt);
    return this.#mark();
  }

  ofRow(row: EventRow): number {
    return this.of(rowBytes(row));
  }

  ofLeaf(leaf: Buffer): number {
    leaf.copy(this.#bytes, this.#leafAt);
    return this.#mark();
  }

  #mark(): number {
    return Number.parseInt(hash("sha256", this.#bytes, "hex").slice(0, 2 * PART_BYTES), 16);
  }
}
