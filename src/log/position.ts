/**
 * Positions: places in a log that a stream or a page can go on from. A position names the log, its life, the seq of an
 * event, a hash of that event and the place within it. The reader's thread makes the hash from the log's rows
 * (`Marks`), and `http/views/positions.ts` checks it when a position comes back, so that a position of another log,
 * life or branch is refused. For an archived event, the hash is made from the event's leaf hash in the tree.
 */

import { hash } from "node:crypto";
import { HASH_BYTES } from "../tlog/merkle.ts";
import { CanonicalWriter, type RowBytes, rowBytes } from "./canonical.ts";
import type { EventRow } from "./event.ts";

/** The ledger that a position is in: its facts `id` and `life`. */
export interface Ledger {
  readonly id: string;
  readonly life: string;
}

/** A point in a log, with enough of the ledger to recognise it. */
export interface Position {
  /** The log's id and its life, each as six bytes in hex: see `ledgerKey`. */
  readonly log: string;
  readonly life: string;
  /** The seq of the event that the position is at; 0: before the first event. */
  readonly seq: number;
  /** That event's mark (see `Marks`); 0 before the first event. */
  readonly mark: number;
  /** The map that is watched, or that the stream's filter names by name or pin; null: the position is in the log. */
  readonly map: number | null;
  readonly place: Place;
}

/**
 * `at`: all of the event was sent. `behind`: between that event and the next one, which may not exist yet. `snapshot`:
 * within the snapshot that a watch begins with. `changes`: that many changes of the event were sent, and more follow.
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
 * Writes the positions of one ledger as texts, base64url of
 *
 *   0 u8 0x10 + the place: 0 at an event, 1 after one, 2 in a snapshot, 3 within an event; + 8: of a map
 *   1 6 bytes of the log's id; 6 of SHA-256 of its life
 *  13 u48 seq
 *  19 u48 mark of that event
 *     u32 map, if it is of a map
 *     u32 changes, if it is within an event
 *     4 bytes of SHA-256 of all bytes before: a text that was cut or changed is refused
 *
 * Integers are big-endian. No text consists of digits alone, so none can be taken for a seq.
 */
export class PositionWriter {
  readonly #bytes: Buffer;
  readonly #map: number | null;

  /** `map`: the map that is watched, or that the stream's filter names; null: the positions are in the log. */
  constructor(ledger: Ledger, map: number | null = null) {
    this.#map = map;
    this.#bytes = Buffer.alloc(CHANGES_AT + 4 + CHECK_BYTES);
    const { log, life } = ledgerKey(ledger);
    this.#bytes.write(log, LOG_AT, "hex");
    this.#bytes.write(life, LIFE_AT, "hex");
  }

  /** All of the event was sent. */
  at(seq: number, mark: number): string {
    return this.#text(PLACES.at, seq, mark);
  }

  /** Between an event and the next one. */
  behind(seq: number, mark: number): string {
    return this.#text(PLACES.behind, seq, mark);
  }

  snapshot(seq: number, mark: number): string {
    return this.#text(PLACES.snapshot, seq, mark);
  }

  /** The first `changes` changes of the event to the map were sent. */
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

/** Reads a position; null if the text is not a whole one. */
export function parsePosition(text: string): Position | null {
  const bytes = TEXT.test(text) ? checkedBytes(text) : null;
  if (bytes === null) return null;
  const kind = bytes[0] as number;
  const place = kind & PLACE_BITS;
  const isOfMap = (kind & OF_MAP) !== 0;
  if ((kind & ~(PLACE_BITS | OF_MAP)) !== LAYOUT || bytes.length !== endOf(place, isOfMap)) return null;
  // Only a watch of a map has positions within a snapshot or an event.
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

/** A place among a map's elements: after the element with this key. */
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

/**
 * base64url of u8 0x20, log and life as a position has them, u32 map, the key, and 4 bytes of SHA-256 of all of these.
 */
export function keyPlaceText(ledger: Ledger, map: number, key: Buffer): string {
  const { log, life } = ledgerKey(ledger);
  const place = Buffer.alloc(4);
  place.writeUInt32BE(map);
  const bytes = Buffer.concat([Buffer.from([KEY_LAYOUT]), Buffer.from(log + life, "hex"), place, key]);
  return Buffer.concat([bytes, Buffer.from(check(bytes), "hex")]).toString("base64url");
}

/** Reads a place among elements; null if the text is not a whole one. */
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

/** The bytes of a text before its checksum; null if the checksum is wrong. */
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
 * The parts of a ledger that positions have. The life is hashed: it is the key of the marks, and callers who may not
 * see every event must not learn it.
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
 * Computes marks. An event's mark is 48 bits of SHA-256(life || leaf hash); it tells the event from any other with its
 * seq. The leaf hash alone would not do: a position may name an event that its reader may not see, and the reader could
 * confirm a guess of its contents.
 */
export class Marks {
  readonly #canonical = new CanonicalWriter();
  /** The life's bytes, then 32 bytes for a leaf hash. */
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
