/**
 * The canonical bytes of an event, and its entry in the log's Merkle tree:
 *
 *     entry = "mapledger event v1\n" || SHA-256(canonical bytes)       51 bytes
 *
 * An entry does not have the event itself, because tlog-tiles gives its length 16 bits, and an event may have
 * megabytes. So bundles of entries are always small, and tell nothing of values (though a guess can be checked). The
 * price is a second hash for each event. The canonical bytes have every column: texts as they are stored, NULL distinct
 * from empty, integers in two's complement.
 */

import { hash } from "node:crypto";
import type { EventRow } from "./event.ts";

/** An integer column: a number, or decimal digits if a number would round it. */
type Digits = number | string;
/** The bytes of a column, raw or in hex; of a text column its UTF-8 bytes. null: NULL. */
type ColumnBytes = Buffer | string | null;

/** An event's columns in their order, none of them rounded. */
export type RowBytes = readonly [
  seq: Digits,
  time_us: Digits,
  session: Digits,
  caller: ColumnBytes,
  cmd: Digits,
  map: Digits,
  fd: Digits | null,
  key: ColumnBytes,
  value: ColumnBytes,
  flags: Digits,
  ret: Digits,
  errno: Digits,
  detail: ColumnBytes,
  attr: ColumnBytes,
  out: ColumnBytes,
];

/** The layout of the canonical bytes. The first line of a log entry names it. */
const LAYOUT = 1;
const ENTRY_HEAD = Buffer.from(`mapledger event v${LAYOUT}\n`);
export const ENTRY_BYTES = ENTRY_HEAD.length + 32;

const INTEGERS_AT = 2;
const CALLER_AT = INTEGERS_AT + 8 * 8;
/** Bits for the columns that are not NULL. */
const PRESENT = { fd: 1, key: 2, value: 4, detail: 8, attr: 16, out: 32 } as const;
const INITIAL_BYTES = 64 * 1024;
/** Views of the buffer are cached up to this length: to make a view costs as much as to hash it. */
const VIEWS_BYTES = 4096;
const TWO_32 = 2 ** 32;

/**
 * Writes the canonical bytes of events, and hashes them. They have all columns; of a text its stored bytes:
 *
 *   0  u8   layout: 1
 *   1  u8   the columns that are not NULL: 1 fd, 2 key, 4 value, 8 detail, 16 attr, 32 out
 *   2  i64  each: seq, time_us, session, cmd, map, flags, ret, errno
 *  66  u32  length of caller, caller
 *      i64  fd, if not NULL
 *      u32  length and bytes of key, value, detail, attr, out, each if not NULL
 *
 * Integers are big-endian. Two rows with the same bytes are the same row. The leaf of the log's tree is not these bytes
 * but the entry `"mapledger event v1\n" || SHA-256(bytes)`: it is small for every event, and shows nothing of the
 * event's contents.
 */
export class CanonicalWriter {
  #buffer = Buffer.allocUnsafeSlow(INITIAL_BYTES);
  #views: (Buffer | undefined)[] = [];
  readonly #entry = Buffer.concat([Buffer.from([0]), ENTRY_HEAD, Buffer.alloc(32)]);

  /** A copy of an event's canonical bytes. */
  bytes(row: RowBytes): Buffer {
    const length = this.#write(row);
    return Buffer.from(this.#buffer.subarray(0, length));
  }

  /** SHA-256 of an event's canonical bytes. */
  hash(row: RowBytes): Buffer {
    return Buffer.from(this.#sha256(row), "latin1");
  }

  /** An event's log entry: the leaf data of the log's tree. */
  entry(row: RowBytes): Buffer {
    this.#digest(row);
    return Buffer.from(this.#entry.subarray(1));
  }

  /** Writes RFC 6962's leaf hash of the event's entry, SHA-256(0x00 || entry), into `target` at offset `at`. */
  leafHash(row: RowBytes, target: Buffer, at: number): void {
    this.#digest(row);
    target.write(hash("sha256", this.#entry, "binary"), at, "latin1");
  }

  #digest(row: RowBytes): void {
    this.#entry.write(this.#sha256(row), 1 + ENTRY_HEAD.length, "latin1");
  }

  /** SHA-256 of an event's canonical bytes, as a latin1 string. */
  #sha256(row: RowBytes): string {
    const length = this.#write(row);
    const digest = hash("sha256", this.#view(length), "binary");
    if (this.#buffer.length > INITIAL_BYTES) this.#resize(INITIAL_BYTES);
    return digest;
  }

  /** Writes an event's canonical bytes into the buffer; returns their number. */
  #write(row: RowBytes): number {
    const [seq, time, session, caller, cmd, map, fd, key, value, flags, ret, errno, detail, attr, out] = row;
    this.#reserve(
      CALLER_AT + 8 + 6 * 4 + most(caller) + most(key) + most(value) + most(detail) + most(attr) + most(out),
    );
    const buffer = this.#buffer;
    buffer[0] = LAYOUT;
    buffer[1] =
      (fd === null ? 0 : PRESENT.fd) |
      (key === null ? 0 : PRESENT.key) |
      (value === null ? 0 : PRESENT.value) |
      (detail === null ? 0 : PRESENT.detail) |
      (attr === null ? 0 : PRESENT.attr) |
      (out === null ? 0 : PRESENT.out);
    writeInteger(buffer, seq, 2);
    writeInteger(buffer, time, 10);
    writeInteger(buffer, session, 18);
    writeInteger(buffer, cmd, 26);
    writeInteger(buffer, map, 34);
    writeInteger(buffer, flags, 42);
    writeInteger(buffer, ret, 50);
    writeInteger(buffer, errno, 58);
    let end = writeBytes(buffer, caller, CALLER_AT);
    if (fd !== null) {
      writeInteger(buffer, fd, end);
      end += 8;
    }
    end = writeBytes(buffer, key, end);
    end = writeBytes(buffer, value, end);
    end = writeBytes(buffer, detail, end);
    end = writeBytes(buffer, attr, end);
    return writeBytes(buffer, out, end);
  }

  #view(length: number): Buffer {
    if (length > VIEWS_BYTES) return this.#buffer.subarray(0, length);
    const known = this.#views[length] ?? this.#buffer.subarray(0, length);
    this.#views[length] = known;
    return known;
  }

  #reserve(bytes: number): void {
    if (bytes > this.#buffer.length) this.#resize(bytes);
  }

  #resize(bytes: number): void {
    this.#buffer = Buffer.allocUnsafeSlow(bytes);
    this.#views = [];
  }
}

/** A row's columns in the form that the canonical bytes are written from. */
export function rowBytes(row: EventRow): RowBytes {
  const { seq, time_us, session, caller, cmd, map, fd, key, value, flags, ret, errno, detail, attr, out } = row;
  const text = (value: string | null): Buffer | null => (value === null ? null : Buffer.from(value));
  return [
    seq,
    time_us,
    session,
    Buffer.from(caller),
    cmd,
    map,
    fd,
    key,
    value,
    String(flags),
    ret,
    errno,
    text(detail),
    text(attr),
    text(out),
  ];
}

/** Reads an event back from its canonical bytes; null if the bytes are not those of an event. */
export function readCanonical(bytes: Buffer): EventRow | null {
  if (bytes.length < CALLER_AT + 4 || bytes[0] !== LAYOUT) return null;
  const present = bytes[1] as number;
  let end = CALLER_AT;
  const integer = (at: number): number => Number(bytes.readBigInt64BE(at));
  const next = (): Buffer => {
    const start = end + 4;
    end = start + bytes.readUInt32BE(end);
    if (end > bytes.length) throw new RangeError("the bytes end within a column");
    return bytes.subarray(start, end);
  };
  const nextInteger = (): number => {
    end += 8;
    return integer(end - 8);
  };
  try {
    const caller = next().toString();
    const fd = present & PRESENT.fd ? nextInteger() : null;
    const key = present & PRESENT.key ? next() : null;
    const value = present & PRESENT.value ? next() : null;
    const detail = present & PRESENT.detail ? next().toString() : null;
    const attr = present & PRESENT.attr ? next().toString() : null;
    const out = present & PRESENT.out ? next().toString() : null;
    if (end !== bytes.length) return null;
    return {
      seq: integer(2),
      time_us: integer(10),
      session: integer(18),
      caller,
      cmd: integer(26),
      map: integer(34),
      fd,
      key,
      value,
      flags: bytes.readBigInt64BE(42),
      ret: integer(50),
      errno: integer(58),
      detail,
      attr,
      out,
    };
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

/** The log entry of the event that has these canonical bytes. */
export function entryOf(canonical: Buffer): Buffer {
  return Buffer.concat([ENTRY_HEAD, hash("sha256", canonical, "buffer")]);
}

/** The most bytes that a column can take. A hex string takes half its length. */
function most(bytes: ColumnBytes): number {
  return bytes === null ? 0 : bytes.length;
}

/** Writes an integer in two's complement, eight bytes. */
function writeInteger(buffer: Buffer, digits: Digits, at: number): void {
  if (typeof digits === "string") {
    buffer.writeBigInt64BE(BigInt(digits), at);
    return;
  }
  const high = Math.floor(digits / TWO_32);
  const low = digits;
  buffer[at] = high >> 24;
  buffer[at + 1] = high >> 16;
  buffer[at + 2] = high >> 8;
  buffer[at + 3] = high;
  buffer[at + 4] = low >> 24;
  buffer[at + 5] = low >> 16;
  buffer[at + 6] = low >> 8;
  buffer[at + 7] = low;
}

/** Writes a column's length and bytes, nothing for NULL; returns the offset after them. */
function writeBytes(buffer: Buffer, bytes: ColumnBytes, at: number): number {
  if (bytes === null) return at;
  const start = at + 4;
  const length = typeof bytes === "string" ? buffer.write(bytes, start, "hex") : bytes.copy(buffer, start);
  buffer[at] = length >> 24;
  buffer[at + 1] = length >> 16;
  buffer[at + 2] = length >> 8;
  buffer[at + 3] = length;
  return start + length;
}
