/** Splits exports into lines and reads their events, in pieces if other work must not wait. */

import { InvalidInput } from "../codec/invalid.ts";
import type { EventRow } from "../log/event.ts";
import { readEventLine, readLongEventLine } from "./event_line.ts";

/** The longest line that is read: an event's key and value in hex, with some space for its other fields. */
const LINE_BYTES_MAX = 512 * 1024 * 1024 - 64 * 1024;
/** A longer line is parsed in pieces, if there is a `pause`. */
const LONG_BYTES = 64 * 1024;
/**
 * The number of bytes read between two pauses. Each line that is not blank counts as EVENT_BYTES more, for the work
 * that its event causes.
 */
const PIECE_BYTES = 64 * 1024;
const EVENT_BYTES = 1024;
/** The initial buffer for a line that comes in pieces; most lines fit. */
const ROOM_BYTES = 1024;

const [TAB, LF, CR, SPACE] = [9, 10, 13, 32];
const BYTE_ORDER_MARK = Buffer.from("\ufeff");

export interface LineOptions {
  /** The most bytes of a line, without its end. */
  readonly bytesMax?: number;
  /** Awaited between two pieces of input, so that other work gets its turn. Left out: lines are parsed in one go. */
  readonly pause?: () => Promise<void>;
}

/** A line of an export cannot be read. */
export class BadLine extends Error {
  /** Such as "line 17". */
  readonly where: string;

  constructor(line: number, found: string) {
    super(`line ${line}: ${found}`);
    this.name = "BadLine";
    this.where = `line ${line}`;
  }
}

/**
 * Reads an export, one event a line, while its pieces arrive. Throws BadLine with the line's number, after the events
 * before it.
 */
export async function* readEventLines(
  pieces: AsyncIterable<Uint8Array>,
  options: LineOptions = {},
): AsyncIterable<EventRow> {
  let lastSeq = 0;
  for await (const { number, bytes } of splitLines(pieces, options)) {
    const row = await readLine(bytes, number, options);
    if (row.seq <= lastSeq)
      throw new BadLine(number, `seq is ${row.seq}: it must be more than ${lastSeq}, the one before`);
    lastSeq = row.seq;
    yield row;
  }
}

async function readLine(line: Buffer, number: number, { pause }: LineOptions): Promise<EventRow> {
  try {
    if (pause === undefined || line.length <= LONG_BYTES) return readEventLine(line.toString("utf8"));
    return await readLongEventLine(line, pause);
  } catch (fault) {
    if (fault instanceof InvalidInput) throw new BadLine(number, fault.message);
    throw fault;
  }
}

interface Line {
  /** From 1; blank lines are counted. */
  readonly number: number;
  readonly bytes: Buffer;
}

/** Splits input into lines. Blank lines are skipped; a last line without an end is a line. */
async function* splitLines(
  pieces: AsyncIterable<Uint8Array>,
  { bytesMax = LINE_BYTES_MAX, pause }: LineOptions,
): AsyncIterable<Line> {
  const begun = new Begun();
  let number = 1;
  let read = 0;
  for await (const piece of pieces) {
    const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.length);
    for (let from = 0; from < bytes.length; ) {
      if (read >= PIECE_BYTES) {
        read = 0;
        await pause?.();
      }
      // A fast path for empty lines: an export may have very many.
      if (bytes[from] === LF && begun.length === 0) {
        from++;
        read++;
        number++;
        continue;
      }
      const end = bytes.indexOf(LF, from);
      const part = bytes.subarray(from, end === -1 ? bytes.length : end);
      if (begun.length + part.length > bytesMax) throw new BadLine(number, `it is longer than ${bytesMax} bytes`);
      from += part.length + 1;
      read += part.length + 1;
      if (end === -1) begun.add(part);
      else {
        const line = begun.end(part);
        if (!isBlank(line)) {
          yield { number, bytes: number === 1 ? withoutMark(line) : line };
          read += EVENT_BYTES;
        }
        number++;
      }
    }
  }
  const last = begun.end(Buffer.alloc(0));
  if (!isBlank(last)) yield { number, bytes: number === 1 ? withoutMark(last) : last };
}

/** A line whose end has not arrived. Its pieces are copied into one buffer, since a piece may have a single byte. */
class Begun {
  #room = Buffer.alloc(ROOM_BYTES);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  add(part: Buffer): void {
    const length = this.#length + part.length;
    if (length > this.#room.length) {
      const more = Buffer.allocUnsafeSlow(Math.max(length, 2 * this.#room.length));
      this.#room.copy(more, 0, 0, this.#length);
      this.#room = more;
    }
    part.copy(this.#room, this.#length);
    this.#length = length;
  }

  /** The whole line; valid until the next one begins. */
  end(rest: Buffer): Buffer {
    if (this.#length === 0) return rest;
    this.add(rest);
    const line = this.#room.subarray(0, this.#length);
    if (this.#room.length > LONG_BYTES) this.#room = Buffer.alloc(ROOM_BYTES);
    this.#length = 0;
    return line;
  }
}

function isBlank(line: Buffer): boolean {
  for (const code of line) if (code !== SPACE && code !== TAB && code !== CR) return false;
  return true;
}

function withoutMark(line: Buffer): Buffer {
  return line.subarray(0, BYTE_ORDER_MARK.length).equals(BYTE_ORDER_MARK)
    ? line.subarray(BYTE_ORDER_MARK.length)
    : line;
}
