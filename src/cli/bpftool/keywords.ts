/** Words of commands that bpftool does not have: keywords, each with its value or none, in any order. */

import { Failure } from "./failure.ts";
import type { Words } from "./words.ts";

/**
 * Reads keywords to the end of the words. `known`: by keyword, the name of its value; null: it has none. A keyword may be
 * cut to any beginning that is no other's. `read` reads the value of one by other means than its next word.
 */
export function readKeywords<Word extends string>(
  words: Words,
  known: Readonly<Record<Word, string | null>>,
  read: Partial<Record<Word, (words: Words) => string>> = {},
): Partial<Record<Word, string>> {
  const given: Partial<Record<Word, string>> = {};
  const names = Object.keys(known) as Word[];
  while (words.first !== undefined) {
    const typed = words.next("a keyword");
    const alike = names.filter((name) => name.startsWith(typed));
    const name = names.includes(typed as Word) ? (typed as Word) : alike.length === 1 ? alike[0] : undefined;
    if (name === undefined)
      throw new Failure(`expected ${(alike.length > 1 ? alike : names).join(", ")}, got: '${typed}'`);
    if (given[name] !== undefined) throw new Failure(`${name} specified multiple times`);
    const value = known[name];
    given[name] = read[name]?.(words) ?? (value === null ? "true" : words.next(`${value} after ${name}`));
  }
  return given;
}

/** A value that must be there. */
export function must(value: string | undefined, word: string): string {
  if (value === undefined) throw new Failure(`did not find ${word}`);
  return value;
}
