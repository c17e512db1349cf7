/** The tokens file (MAPLEDGER_TOKENS), read again whenever it changes. */

import type { Callers } from "../access/callers.ts";
import { type Line, parseTokens } from "../access/tokens_file.ts";
import { readSmall, whenReplaced } from "../files/contents.ts";

/** The receivers of the file's content. */
export interface CallersFileParts {
  readonly file: string;
  readonly callers: Callers;
  /** Called after each reading, with the lines that are in force from now on. */
  readonly changed: (lines: readonly Line[]) => void;
  readonly warn: (message: string) => void;
}

/**
 * Keeps the callers up to date with the file. A file that cannot be read, or is only half written, leaves the callers
 * unchanged.
 */
export class CallersFile {
  readonly #parts: CallersFileParts;
  #text = "";

  /** Throws an Error if the file cannot be read. */
  constructor(parts: CallersFileParts) {
    this.#parts = parts;
    this.#text = readSmall(parts.file).toString();
    this.#take(this.#text);
  }

  /** Starts to watch the file for changes. */
  watch(): void {
    whenReplaced(this.#parts.file, () => this.reread());
  }

  /** Reads the file again, and does nothing if its text is the same. */
  reread(): void {
    const { file, warn } = this.#parts;
    try {
      const text = readSmall(file).toString();
      if (text === this.#text) return;
      // A half-written line could lack its scopes, and a line without scopes grants all of them.
      if (!text.endsWith("\n")) throw new Error(`${file} does not end with a newline: it is not complete yet`);
      this.#take(text);
      this.#text = text;
    } catch (error) {
      warn(`the tokens file cannot be read, and callers stay unchanged: ${(error as Error).message}`);
    }
  }

  #take(text: string): void {
    const { file, callers, changed, warn } = this.#parts;
    const { lines, warnings } = parseTokens(text, file);
    callers.replace(lines);
    for (const warning of warnings) warn(warning);
    changed(lines);
  }
}
