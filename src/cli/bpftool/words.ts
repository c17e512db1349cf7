/** The words of a command, read one by one as bpftool reads them. */

import { Failure } from "./failure.ts";

export class Words {
  readonly #words: readonly string[];
  readonly #command: string;
  #at = 0;

  /** `command`: the word before them, as it was typed. */
  constructor(words: readonly string[], command: string) {
    this.#words = words;
    this.#command = command;
  }

  get left(): number {
    return this.#words.length - this.#at;
  }

  /** The next word; undefined: there is none. */
  get first(): string | undefined {
    return this.#words[this.#at];
  }

  /** Throws a Failure that names what is missing. */
  next(what: string): string {
    const word = this.#words[this.#at];
    if (word === undefined) throw new Failure(`expected ${what}, found nothing`);
    this.#at++;
    return word;
  }

  /** Takes the next word if it is this one or its beginning. */
  takes(word: string): boolean {
    const isIt = isPrefix(this.first, word);
    if (isIt) this.#at++;
    return isIt;
  }

  /** Throws a Failure if words are left. */
  end(): void {
    if (this.first !== undefined) throw new Failure(`what is '${this.first}'?`);
  }

  /** Throws bpftool's Failure, which names the word before, if fewer than `least` are left. */
  need(least: number, code?: number): void {
    if (this.left >= least) return;
    const before = this.#words[this.#at - 1] ?? this.#command;
    throw new Failure(`'${before}' needs at least ${least} arguments, ${this.left} found`, code);
  }
}

export function isPrefix(beginning: string | undefined, word: string): boolean {
  return beginning !== undefined && word.startsWith(beginning);
}

/**
 * strtoul(3) of a whole text: decimal, 0x and hex digits, 0 and octal digits; base 16: hex digits with or without 0x. null:
 * it is no such number, or above `most`.
 */
export function readNumber(text: string, most: number, base: 0 | 16 = 0): number | null {
  const [, hex, octal, decimal] =
    base === 16
      ? (/^(?:0x)?([0-9a-f]+)$/i.exec(text) ?? [])
      : (/^(?:0x([0-9a-f]+)|0([0-7]*)|([1-9]\d*))$/i.exec(text) ?? []);
  const number =
    hex !== undefined
      ? Number.parseInt(hex, 16)
      : octal !== undefined
        ? Number.parseInt(octal || "0", 8)
        : Number(decimal);
  return number <= most ? number : null;
}
