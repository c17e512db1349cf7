import { InvalidInput } from "./invalid.ts";

// Parts of a large body that codec/json_pieces.ts has not made values of: what is read of them stands here instead.

/** Characters of a text that are kept as they are: more than any name or path has. */
export const TEXT_LENGTH_MAX = 64 * 1024;

/** Something that is larger than anything that is read, but for hex; `start` is how its JSON begins. */
export class Large {
  readonly start: string;

  constructor(start: string) {
    this.start = start;
  }
}

/** A long string: bytes, if it is hex, and its beginning. */
export class LargeText extends Large {
  readonly text: string;
  readonly #decoded: Buffer | string;

  /** `text`: its first TEXT_LENGTH_MAX characters; `decoded`: the bytes that it is in hex, or why it is none. */
  constructor(text: string, decoded: Buffer | string) {
    super(JSON.stringify(text.slice(0, 64)));
    this.text = text;
    this.#decoded = decoded;
  }

  get isHex(): boolean {
    return typeof this.#decoded !== "string";
  }

  /** Throws InvalidInput where it is no hex. */
  bytes(where: string): Buffer {
    if (typeof this.#decoded === "string") throw new InvalidInput(where, this.#decoded);
    return this.#decoded;
  }
}
