/**
 * Parses large bodies in pieces, with pauses in between so that nothing else has to wait. The result is the one of
 * JSON.parse, with three exceptions: a long string is a LargeText (decoded from hex meanwhile), the lists of
 * PACKED_LISTS are packed, and any other long value is a Large, which readers refuse. No part of the result is larger
 * than the body.
 */

import { PACKED_LISTS } from "./body.ts";
import { InvalidInput } from "./invalid.ts";
import { Large, LargeText, TEXT_LENGTH_MAX } from "./large.ts";
import { isHexDigit, type Packed, PackedPairs, type PackedTexts } from "./packed.ts";
import { digitFault, oddFault } from "./scalars.ts";

export interface PieceOptions {
  /** The number of bytes between two pauses. */
  readonly pieceBytes?: number;
  /** A string or another value with more bytes than this is long. */
  readonly longBytes?: number;
  /** The name of the JSON in errors; default: "body". */
  readonly name?: string;
}

/** The body is not JSON. */
export class NotJson extends Error {
  readonly statusCode = 400;

  constructor() {
    super("the body is not JSON");
    this.name = "NotJson";
  }
}

/**
 * Rejects with NotJson, or with InvalidInput if values are nested too deeply. `pause` is awaited between two pieces.
 */
export async function parseInPieces(
  json: Buffer,
  pause: () => Promise<void>,
  options: PieceOptions = {},
): Promise<unknown> {
  const reading = new Reader(json, options).body();
  for (let step = reading.next(); ; step = reading.next()) {
    if (step.done) return step.value;
    await pause();
  }
}

const PIECE_BYTES = 256 * 1024;
const LONG_BYTES = 64 * 1024;
/** The most levels of nesting: more than any valid body has, and few enough for JSON.parse. */
const LEVELS_MAX = 1000;
/** The most fields that are kept of an object that is read field by field; no valid one has more. */
const FIELDS_MAX = 64;
/** Objects that are read field by field: the body, and objects in it. */
const FIELD_LEVELS = 2;
const DIGITS_MAX = 64 * 1024;
const SPACE_MAX = 64 * 1024;
/**
 * Making a value takes about as long as reading this many bytes. So each field, and each item of a list that is not
 * packed, brings the next pause nearer by as many bytes.
 */
const MADE_BYTES = 24;
/** How far the fast paths look for the end of a string or an object. */
const NEAR_BYTES = 1024;

const [QUOTE, BACKSLASH, COMMA, COLON, MINUS, PLUS, DOT] = codes('"\\,:-+.');
const [LIST, LIST_END, OBJECT, OBJECT_END, SPACE, TAB, LF, CR] = codes("[]{} \t\n\r");
const [ZERO, SEVEN, NINE, LOWER_E, UPPER_E, LOWER_U, LOWER_X, UPPER_X] = codes("079eEuxX");

const LITERALS = ["true", "false", "null"].map((word) => Buffer.from(word));
const ESCAPED = new Map([...'"\\/bfnrt'].map((letter) => [codeOf(letter), codeOf(JSON.parse(`"\\${letter}"`))]));
const KEY = Buffer.from('{"key":"');
const VALUE = Buffer.from('","value":"');
const PAIR_END = Buffer.from('"}');
/** Takes the place of a character that is not ASCII; not a hex digit. */
const FOREIGN = 255;
const LITTLE = 32;
const BYTE_ORDER_MARK = Buffer.from("\ufeff");

type Codes = [number, number, number, number, number, number, number, number];

function codes(characters: string): Codes {
  return [...characters].map(codeOf) as Codes;
}

function codeOf(character: string): number {
  return character.charCodeAt(0);
}

type Steps<Result> = Generator<void, Result>;

class Reader {
  readonly #json: Buffer;
  readonly #pieceBytes: number;
  readonly #longBytes: number;
  readonly #name: string;
  #at = 0;
  #pausedAt = 0;

  constructor(json: Buffer, { pieceBytes = PIECE_BYTES, longBytes = LONG_BYTES, name = "body" }: PieceOptions) {
    this.#json = json;
    this.#name = name;
    this.#pieceBytes = pieceBytes;
    this.#longBytes = longBytes;
  }

  *body(): Steps<unknown> {
    if (this.#isHere(BYTE_ORDER_MARK, 0)) this.#at = BYTE_ORDER_MARK.length;
    this.#space();
    const body = yield* this.#value(FIELD_LEVELS, true);
    this.#space();
    if (this.#at !== this.#json.length) throw new NotJson();
    return body;
  }

  /** `levels`: the levels of objects that are read field by field. */
  *#value(levels: number, isBody = false): Steps<unknown> {
    const first = this.#json[this.#at];
    if (first === QUOTE) return yield* this.#text();
    if (first === OBJECT && levels > 0) return yield* this.#object(levels, isBody);
    const from = this.#at;
    yield* this.#pass();
    const to = this.#at;
    if (to - from <= this.#longBytes) return JSON.parse(this.#json.toString("utf8", from, to));
    return new Large(`${this.#json.toString("latin1", from, from + 1)}...`);
  }

  *#object(levels: number, isBody: boolean): Steps<object> {
    const fields = new Map<string, unknown>();
    for (let more = this.#opens(OBJECT_END); more; more = this.#goesOn(OBJECT_END)) {
      const name = yield* this.#fieldName();
      const packed = isBody ? yield* this.#packedList(name) : undefined;
      const value = packed ?? (yield* this.#value(levels - 1));
      if (fields.size < FIELDS_MAX || fields.has(name)) fields.set(name, value);
      this.#pausedAt -= MADE_BYTES;
      if (this.#isPieceOver()) yield;
    }
    return Object.fromEntries(fields);
  }

  *#fieldName(): Steps<string> {
    if (this.#json[this.#at] !== QUOTE) throw new NotJson();
    const name = yield* this.#text();
    this.#space();
    if (this.#json[this.#at] !== COLON) throw new NotJson();
    this.#at++;
    this.#space();
    return name instanceof LargeText ? name.text : name;
  }

  // Packed lists.

  *#packedList(name: string): Steps<PackedPairs | PackedTexts | undefined> {
    if (!Object.hasOwn(PACKED_LISTS, name) || this.#json[this.#at] !== LIST) return undefined;
    const list = PACKED_LISTS[name as keyof typeof PACKED_LISTS]();
    for (let more = this.#opens(LIST_END); more; more = this.#goesOn(LIST_END)) {
      const from = this.#at;
      if (list.isRefused) yield* this.#pass();
      else if (!(list instanceof PackedPairs ? this.#takePair(list) : this.#takeText(list))) {
        list.add(this.#nearObject() ?? (yield* this.#value(1)));
        this.#pausedAt -= MADE_BYTES;
      }
      if (list.count === 1) list.expect(Math.ceil(this.#json.length / (this.#at - from + 1)));
      if (this.#isPieceOver()) yield;
    }
    return list;
  }

  /**
   * Takes {"key":"..","value":".."} in its usual spelling, if key and value are as long as those before. Returns
   * whether it did.
   */
  #takePair({ keys, values }: PackedPairs): boolean {
    if (!isPlain(keys, this.#longBytes) || !isPlain(values, this.#longBytes)) return false;
    const key = this.#at + KEY.length;
    const keyEnd = key + 2 * keys.size;
    const value = keyEnd + VALUE.length;
    const valueEnd = value + 2 * values.size;
    if (!this.#isHere(KEY, this.#at) || !this.#isHere(VALUE, keyEnd) || !this.#isHere(PAIR_END, valueEnd)) return false;
    if (!keys.addDigits(this.#json, key)) return false;
    if (!values.addDigits(this.#json, value)) {
      keys.drop();
      return false;
    }
    this.#at = valueEnd + PAIR_END.length;
    return true;
  }

  #takeText({ texts }: PackedTexts): boolean {
    if (!isPlain(texts, this.#longBytes)) return false;
    const from = this.#at + 1;
    const end = from + 2 * texts.size;
    if (this.#json[this.#at] !== QUOTE || this.#json[end] !== QUOTE) return false;
    if (!texts.addDigits(this.#json, from)) return false;
    this.#at = end + 1;
    return true;
  }

  /**
   * Parses a short object without nested objects, lists and escapes. Otherwise returns undefined and stays at its
   * beginning.
   */
  #nearObject(): unknown {
    const json = this.#json;
    const from = this.#at;
    if (json[from] !== OBJECT) return undefined;
    for (let at = from + 1, end = at + Math.min(NEAR_BYTES, this.#longBytes); at < end; at++) {
      const code = json[at];
      if (code === OBJECT || code === LIST || code === BACKSLASH || code === undefined) return undefined;
      if (code !== OBJECT_END) continue;
      this.#at = at + 1;
      try {
        return JSON.parse(json.toString("utf8", from, this.#at));
      } catch {
        // The brace was within a string, or the object is not JSON.
        this.#at = from;
        return undefined;
      }
    }
    return undefined;
  }

  #isHere(word: Buffer, from: number): boolean {
    for (let at = 0; at < word.length; at++) if (this.#json[from + at] !== word[at]) return false;
    return true;
  }

  // Strings.

  *#text(): Steps<string | LargeText> {
    const from = this.#at;
    if (this.#passNear() && this.#at - from <= this.#longBytes)
      return this.#json.toString("utf8", from + 1, this.#at - 1);
    this.#at = from;
    const hex = yield* this.#longHex();
    if (hex !== null) return hex;
    yield* this.#passText();
    const to = this.#at;
    if (to - from <= this.#longBytes) return JSON.parse(this.#json.toString("utf8", from, to));
    const text = this.#json.subarray(from + 1, to - 1);
    const beginning = beginningOf(text);
    const plain = text.includes(BACKSLASH) ? yield* this.#unescaped(text) : text;
    return new LargeText(beginning, yield* this.#decode(plain, beginning));
  }

  /**
   * Takes a long string of hex digits, as most long strings are. Returns null and stays at the string's beginning if it
   * is short or not hex.
   */
  *#longHex(): Steps<LargeText | null> {
    const from = this.#at + 1;
    const to = this.#json.indexOf(QUOTE, from);
    if (to - from <= this.#longBytes) return null;
    const text = this.#json.subarray(from, to);
    const bytes = yield* this.#decode(text, "");
    if (typeof bytes === "string") return null;
    this.#at = to + 1;
    this.#pausedAt = this.#at;
    return new LargeText(text.toString("latin1", 0, TEXT_LENGTH_MAX), bytes);
  }

  /** The bytes of hex digits, or an error's text. `beginning`: the first characters of `text`, for that error. */
  *#decode(text: Buffer, beginning: string): Steps<Buffer | string> {
    const digits = withoutPrefix(text);
    const known = beginning.slice(text.length - digits.length);
    const bytes = Buffer.allocUnsafeSlow(digits.length >>> 1);
    for (let at = 0; at < bytes.length; ) {
      const end = Math.min(bytes.length, at + this.#pieceBytes);
      at += bytes.write(digits.toString("latin1", 2 * at, 2 * end), at, "hex");
      if (at < end) return faultOf(digits, 2 * at, known);
      yield;
    }
    return digits.length % 2 === 0 ? bytes : faultOf(digits, digits.length - 1, known);
  }

  /** Resolves escapes, which `passText` has checked. */
  *#unescaped(text: Buffer): Steps<Buffer> {
    const plain = Buffer.allocUnsafeSlow(text.length);
    let length = 0;
    for (let at = 0, pausedAt = 0; at < text.length; ) {
      const code = text[at] as number;
      const next = text[at + 1] as number;
      if (at - pausedAt >= this.#pieceBytes) {
        pausedAt = at;
        yield;
      }
      if (code !== BACKSLASH) {
        plain[length++] = code;
        at++;
      } else if (next !== LOWER_U) {
        plain[length++] = ESCAPED.get(next) as number;
        at += 2;
      } else {
        const isAscii = text[at + 2] === ZERO && text[at + 3] === ZERO && isLowDigit(text[at + 4] as number);
        plain[length++] = isAscii ? Number.parseInt(text.toString("latin1", at + 4, at + 6), 16) : FOREIGN;
        at += 6;
      }
    }
    return plain.subarray(0, length);
  }

  // Values that are skipped.

  /** Skips a value of any kind. */
  *#pass(): Steps<void> {
    const open: number[] = [];
    for (;;) {
      const first = this.#json[this.#at];
      if (first === OBJECT || first === LIST) {
        const end = first === OBJECT ? OBJECT_END : LIST_END;
        if (open.length === LEVELS_MAX)
          throw new InvalidInput(this.#name, `lists and objects are nested more than ${LEVELS_MAX} times`);
        open.push(end);
        if (this.#opens(end)) {
          if (end === OBJECT_END) yield* this.#passName();
          continue;
        }
        open.pop();
      } else if (first === QUOTE) {
        if (!this.#passNear()) yield* this.#passText();
      } else this.#passWord();
      if (this.#isPieceOver()) yield;
      for (let end = open.at(-1); ; end = open.at(-1)) {
        if (end === undefined) return;
        if (this.#goesOn(end)) {
          if (end === OBJECT_END) yield* this.#passName();
          break;
        }
        open.pop();
      }
    }
  }

  *#passName(): Steps<void> {
    if (this.#json[this.#at] !== QUOTE) throw new NotJson();
    if (!this.#passNear()) yield* this.#passText();
    this.#space();
    if (this.#json[this.#at] !== COLON) throw new NotJson();
    this.#at++;
    this.#space();
  }

  /** Skips a short string without escapes. Returns false and stays at its beginning if it is long or has escapes. */
  #passNear(): boolean {
    const json = this.#json;
    const end = this.#at + NEAR_BYTES;
    for (let at = this.#at + 1; at < end; at++) {
      const code = json[at] as number;
      if (code === QUOTE) {
        this.#at = at + 1;
        return true;
      }
      if (code === BACKSLASH || code < LITTLE || code === undefined) return false;
    }
    return false;
  }

  *#passText(): Steps<void> {
    const json = this.#json;
    let at = this.#at + 1;
    for (;;) {
      const end = Math.min(json.length, this.#pausedAt + this.#pieceBytes);
      for (; at < end; at++) {
        const code = json[at] as number;
        if (code === QUOTE) {
          this.#at = at + 1;
          return;
        }
        if (code < LITTLE) throw new NotJson();
        if (code === BACKSLASH) at += this.#escapeLength(at) - 1;
      }
      if (at >= json.length) throw new NotJson();
      this.#pausedAt = at;
      yield;
    }
  }

  /** The length in bytes of the escape at `at`. */
  #escapeLength(at: number): number {
    const kind = this.#json[at + 1];
    if (kind !== LOWER_U) {
      if (kind === undefined || !ESCAPED.has(kind)) throw new NotJson();
      return 2;
    }
    for (let digit = at + 2; digit < at + 6; digit++) if (!isHexDigit(this.#json[digit] as number)) throw new NotJson();
    return 6;
  }

  /** Skips a number, true, false or null. */
  #passWord(): void {
    for (const word of LITERALS)
      if (this.#isHere(word, this.#at)) {
        this.#at += word.length;
        return;
      }
    if (this.#json[this.#at] === MINUS) this.#at++;
    if (this.#json[this.#at] === ZERO) this.#at++;
    else this.#digits();
    if (this.#json[this.#at] === DOT) {
      this.#at++;
      this.#digits();
    }
    const exponent = this.#json[this.#at];
    if (exponent !== LOWER_E && exponent !== UPPER_E) return;
    const sign = this.#json[++this.#at];
    if (sign === PLUS || sign === MINUS) this.#at++;
    this.#digits();
  }

  /** Skips digits, of which there must be one at least. */
  #digits(): void {
    const from = this.#at;
    for (let code = this.#json[from] as number; code >= ZERO && code <= NINE; code = this.#json[this.#at] as number) {
      this.#at++;
      if (this.#at - from > DIGITS_MAX)
        throw new InvalidInput(this.#name, `a number has more than ${DIGITS_MAX} digits`);
    }
    if (this.#at === from) throw new NotJson();
  }

  /** Enters a list or an object. Returns whether it has an item. */
  #opens(end: number): boolean {
    this.#at++;
    this.#space();
    if (this.#json[this.#at] !== end) return true;
    this.#at++;
    return false;
  }

  /** Goes on after an item. Returns whether another one follows. */
  #goesOn(end: number): boolean {
    this.#space();
    const next = this.#json[this.#at++];
    if (next === end) return false;
    if (next !== COMMA) throw new NotJson();
    this.#space();
    return true;
  }

  #space(): void {
    for (const from = this.#at; ; this.#at++) {
      const code = this.#json[this.#at];
      if (code !== SPACE && code !== LF && code !== CR && code !== TAB) return;
      if (this.#at - from > SPACE_MAX) throw new InvalidInput(this.#name, `more than ${SPACE_MAX} blanks in a row`);
    }
  }

  #isPieceOver(): boolean {
    if (this.#at - this.#pausedAt < this.#pieceBytes) return false;
    this.#pausedAt = this.#at;
    return true;
  }
}

/** Whether the fast path may take the next item: the length of the items is known, short, and all were valid so far. */
function isPlain({ size, fault }: Packed, longBytes: number): boolean {
  return size >= 0 && 2 * size <= longBytes && fault === null;
}

/** Whether a character is a digit from 0 to 7. */
function isLowDigit(code: number): boolean {
  return code >= ZERO && code <= SEVEN;
}

function withoutPrefix(digits: Buffer): Buffer {
  const second = digits[1];
  return digits[0] === ZERO && (second === LOWER_X || second === UPPER_X) ? digits.subarray(2) : digits;
}

/** The error of hex digits that are right up to `from`. `beginning`: their first characters. */
function faultOf(digits: Buffer, from: number, beginning: string): string {
  for (let at = from; at < digits.length; at++)
    if (!isHexDigit(digits[at] as number))
      return digitFault(beginning[at] ?? digits.toString("utf8", at, at + 4).charAt(0), at);
  return oddFault(digits.length);
}

/** The first characters of a string, given as JSON without its quotes. */
function beginningOf(text: Buffer): string {
  let end = 0;
  while (end < text.length && end < TEXT_LENGTH_MAX) {
    const code = text[end] as number;
    if (code === BACKSLASH) end += text[end + 1] === LOWER_U ? 6 : 2;
    else end += code < 0x80 ? 1 : code < 0xe0 ? 2 : code < 0xf0 ? 3 : 4;
  }
  return JSON.parse(`"${text.toString("utf8", 0, end)}"`);
}
