import type { Callers } from "../access/callers.ts";
import { type Line, parseTokens } from "../access/tokens_file.ts";
import { readSmall, whenReplaced } from "../files/contents.ts";

/** What is done about readings of the file. */
export interface CallersFileParts {
  readonly file: string;
  readonly callers: Callers;
  /** The file was read: these may do what they may from now on. */
  readonly changed: (lines: readonly Line[]) => void;
  readonly warn: (message: string) => void;
}

/** The tokens' file, read again whenever it changes. One that cannot be read, or is half written, leaves the callers as they were. */
export class CallersFile {
  readonly #parts: CallersFileParts;
  #text = "";

  /** Reads it. Throws where that cannot be. */
  constructor(parts: CallersFileParts) {
    this.#parts = parts;
    this.#text = readSmall(parts.file).toString();
    this.#take(this.#text);
  }

  /** From now on changes are noticed. */
  watch(): void {
    whenReplaced(this.#parts.file, () => this.reread());
  }

  /** Reads it again, if it is another than before. */
  reread(): void {
    const { file, warn } = this.#parts;
    try {
      const text = readSmall(file).toString();
      if (text === this.#text) return;
      // One that is being written is cut somewhere: in front of scopes, perhaps, without which a line means all.
      if (!text.endsWith("\n")) throw new Error(`${file} does not end with a line's end: it is not whole yet`);
      this.#take(text);
      this.#text = text;
    } catch (error) {
      warn(`the tokens' file cannot be read, and callers stay as they were: ${(error as Error).message}`);
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
