/** Placeholders for values of a large body that codec/json_pieces.ts does not make. */

import { InvalidInput } from "./invalid.ts";

/** The number of characters that are kept of a long text: more than any name or path has. */
export const TEXT_LENGTH_MAX = 64 * 1024;

/**
 * A value that is longer than any that readers accept, except hex (LargeText). `start`: the beginning of its JSON, for
 * errors.
 */
export class Large {
  readonly start: string;

  constructor(start: string) {
    this.start = start;
  }
}

/** A long string: its bytes if it is hex, and its beginning. */
export class LargeText extends Large {
  readonly text: string;
  readonly #decoded: Buffer | string;

  /** `text`: its first TEXT_LENGTH_MAX characters. `decoded`: its bytes, or why it is not hex. */
  constructor(text: string, decoded: Buffer | string) {
    super(JSON.stringify(text.slice(0, 64)));
    this.text = text;
    this.#decoded = decoded;
  }

  get isHex(): boolean {
    return typeof this.#decoded !== "string";
  }

  /** Throws InvalidInput if the string is not hex. */
  bytes(where: string): Buffer {
    if (typeof this.#decoded === "string") throw new InvalidInput(where, this.#decoded);
    return this.#decoded;
  }
}
