/** Lists of hex in large batches, decoded end to end into one buffer instead of a Buffer for each item. */

import { InvalidInput } from "./invalid.ts";
import { LargeText } from "./large.ts";
import { bytes, shown } from "./scalars.ts";

const NOTHING = Buffer.alloc(0);
const DIGIT_0 = 48;
const LOWER_X = 120;
const UPPER_X = 88;

/** The value of each hex digit by its character code; NO_DIGIT for other codes. */
const NO_DIGIT = 255;
const DIGITS = new Uint8Array(256).fill(NO_DIGIT);
for (const [value, digit] of [..."0123456789abcdef"].entries()) {
  DIGITS[digit.charCodeAt(0)] = value;
  DIGITS[digit.toUpperCase().charCodeAt(0)] = value;
}

export function isHexDigit(code: number): boolean {
  return DIGITS[code] !== NO_DIGIT;
}

/**
 * Hex texts of equal length, decoded end to end into one buffer. The first error is kept, and thrown when the bytes are
 * taken.
 */
export class Packed {
  readonly #where: (at: number) => string;
  #countHint: number;
  #room = NOTHING;
  #length = 0;
  /** The bytes of each text; -1 before the first. */
  size = -1;
  count = 0;
  fault: InvalidInput | null = null;

  /** `where`: the place of a text, for errors. `countHint`: the number of texts to come, if known. */
  constructor(where: (at: number) => string, countHint = 0) {
    this.#where = where;
    this.#countHint = countHint;
  }

  /** Sets the number of texts to come. */
  expect(count: number): void {
    this.#countHint = count;
  }

  /** Adds a text, with or without 0x. */
  add(text: string | LargeText): void {
    const at = this.count++;
    if (this.fault !== null) return;
    try {
      if (text instanceof LargeText) this.#addBytes(text.bytes(this.#where(at)), at);
      else this.#addText(text, at);
    } catch (fault) {
      this.fault = fault as InvalidInput;
    }
  }

  /**
   * Adds the text in `json` from offset `from` on, if its characters, as many as the texts before have, are all hex
   * digits. Returns whether it did.
   */
  addDigits(json: Buffer, from: number): boolean {
    const { size } = this;
    const room = this.#reserve();
    let at = from;
    let to = this.#length;
    for (const end = to + size; to < end; to++) {
      const high = DIGITS[json[at++] as number] as number;
      const low = DIGITS[json[at++] as number] as number;
      // Callers have found the closing quote, so that all digits lie within `json`.
      if ((high | low) > 15) return false;
      room[to] = (high << 4) | low;
    }
    this.#length = to;
    this.count++;
    return true;
  }

  /** Removes the last text. */
  drop(): void {
    this.#length -= this.size;
    this.count--;
  }

  /** The bytes of all texts. Throws InvalidInput if one was not hex, or not as long as the first. */
  bytes(): Buffer {
    if (this.fault !== null) throw this.fault;
    return this.#room.subarray(0, this.#length);
  }

  #addText(text: string, at: number): void {
    if (this.size === -1) {
      this.#addBytes(bytes(text, this.#where(at)), at);
      return;
    }
    const { size } = this;
    const second = text.charCodeAt(1);
    const digits = (second === LOWER_X || second === UPPER_X) && text.charCodeAt(0) === DIGIT_0 ? text.slice(2) : text;
    if (digits.length !== size * 2 || this.#reserve().write(digits, this.#length, size, "hex") !== size)
      throw this.#lengthFault(bytes(text, this.#where(at)).length, at);
    this.#length += size;
  }

  #addBytes(decoded: Buffer, at: number): void {
    if (this.size === -1) this.size = decoded.length;
    if (decoded.length !== this.size) throw this.#lengthFault(decoded.length, at);
    decoded.copy(this.#reserve(), this.#length);
    this.#length += this.size;
  }

  #lengthFault(found: number, at: number): InvalidInput {
    const text = `${found} bytes: the first of the request has ${this.size}, and all must be of one length`;
    return new InvalidInput(this.#where(at), text);
  }

  /** The buffer, with space for one more text. */
  #reserve(): Buffer {
    const needed = this.#length + this.size;
    if (needed > this.#room.length) {
      const more = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.#room.length, this.#countHint * this.size));
      this.#room.copy(more, 0, 0, this.#length);
      this.#room = more;
    }
    return this.#room;
  }
}

/** A list of hex texts. */
export class PackedTexts {
  readonly texts: Packed;
  readonly #name: string;
  #fault: InvalidInput | null = null;

  constructor(name: string, countHint = 0) {
    this.#name = name;
    this.texts = new Packed((at) => `${name}[${at}]`, countHint);
  }

  get count(): number {
    return this.texts.count;
  }

  /** Whether an item was not a text, so that the list is refused and further items need not be decoded. */
  get isRefused(): boolean {
    return this.#fault !== null;
  }

  expect(count: number): void {
    this.texts.expect(count);
  }

  add(item: unknown): void {
    if (typeof item !== "string" && !(item instanceof LargeText)) {
      this.#fault ??= noHex(item, `${this.#name}[${this.texts.count}]`);
      this.texts.count++;
    } else this.texts.add(item);
  }

  /** Throws InvalidInput with the first error. */
  checked(): { readonly count: number; readonly keys: Buffer } {
    if (this.#fault !== null) throw this.#fault;
    return { count: this.texts.count, keys: this.texts.bytes() };
  }
}

/** A list of elements: objects with `key` and `value`. */
export class PackedPairs {
  readonly keys: Packed;
  readonly values: Packed;
  readonly #where: (at: number) => string;
  readonly #faultOf: (item: unknown, where: string) => InvalidInput;
  #fault: InvalidInput | null = null;

  /** `where`: the place of an item, for errors. `faultOf`: the error of an item that is not an object of two texts. */
  constructor(where: (at: number) => string, faultOf: (item: unknown, where: string) => InvalidInput, countHint = 0) {
    this.#where = where;
    this.#faultOf = faultOf;
    this.keys = new Packed((at) => `${where(at)}.key`, countHint);
    this.values = new Packed((at) => `${where(at)}.value`, countHint);
  }

  get count(): number {
    return this.keys.count;
  }

  /** Whether an item was not an element, so that the list is refused and further items need not be decoded. */
  get isRefused(): boolean {
    return this.#fault !== null;
  }

  expect(count: number): void {
    this.keys.expect(count);
    this.values.expect(count);
  }

  add(item: unknown): void {
    const { key, value } = (item ?? NO_FIELDS) as { key?: unknown; value?: unknown };
    if (isText(key) && isText(value) && hasTwoFields(item as object)) {
      this.keys.add(key);
      this.values.add(value);
      return;
    }
    this.#fault ??= this.#faultOf(item, this.#where(this.keys.count));
    this.keys.count++;
    this.values.count++;
  }

  /** Throws InvalidInput with the first error. */
  checked(): { readonly count: number; readonly keys: Buffer; readonly values: Buffer } {
    if (this.#fault !== null) throw this.#fault;
    return { count: this.keys.count, keys: this.keys.bytes(), values: this.values.bytes() };
  }
}

const NO_FIELDS = {};

function isText(value: unknown): value is string | LargeText {
  return typeof value === "string" || value instanceof LargeText;
}

function hasTwoFields(element: object): boolean {
  let count = 0;
  for (const _ in element) count++;
  return count === 2;
}

function noHex(item: unknown, where: string): InvalidInput {
  return new InvalidInput(where, `a string of hex digits required, found ${shown(item)}`);
}
