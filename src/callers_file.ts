import { readFileSync, type Stats, watchFile } from "node:fs";
import type { Callers } from "./access/callers.ts";
import { type Line, parseTokens } from "./access/tokens_file.ts";

/** Polled, because mounts of secrets swap links, which no watch sees. */
const POLL_MS = 1000;

/** What is done about readings of the file. */
export interface CallersFileParts {
  readonly file: string;
  readonly callers: Callers;
  /** The file was read: these may do what they may from now on. */
  readonly changed: (lines: readonly Line[]) => void;
  readonly warn: (message: string) => void;
}

/** The tokens' file, read again whenever it changes. One that cannot be read leaves the callers as they were. */
export class CallersFile {
  readonly #parts: CallersFileParts;
  #text = "";

  /** Reads it. Throws where that cannot be. */
  constructor(parts: CallersFileParts) {
    this.#parts = parts;
    this.#text = readFileSync(parts.file, "utf8");
    this.#take(this.#text);
  }

  /** From now on changes are noticed. */
  watch(): void {
    watchFile(this.#parts.file, { interval: POLL_MS, persistent: false }, (now: Stats, before: Stats) => {
      if (now.mtimeMs !== before.mtimeMs || now.ino !== before.ino || now.size !== before.size) this.reread();
    });
  }

  /** Reads it again, if it is another than before. */
  reread(): void {
    const { file, warn } = this.#parts;
    try {
      const text = readFileSync(file, "utf8");
      if (text === this.#text) return;
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
