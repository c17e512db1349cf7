/** The options of a command line, read as getopt_long(3) reads bpftool's: anywhere among the words, until "--". */

import { Failure } from "./failure.ts";

interface Row {
  readonly short: string | null;
  readonly long: string;
  /** The name of its value in the help; null: it takes none. */
  readonly value: string | null;
  readonly text: string;
}

export const OPTIONS = [
  { short: "j", long: "json", value: null, text: "print JSON, in bpftool's form" },
  { short: "p", long: "pretty", value: null, text: "print JSON, indented" },
  { short: "f", long: "bpffs", value: null, text: "show the paths at which maps are pinned" },
  { short: "n", long: "nomount", value: null, text: "without an effect: mapledger mounts nothing" },
  { short: "d", long: "debug", value: null, text: "tell each request to the service on standard error" },
  { short: "V", long: "version", value: null, text: "print the version" },
  { short: "h", long: "help", value: null, text: "print help about the command" },
  {
    short: null,
    long: "at",
    value: "SEQ|TIME",
    text: "read as of the moment right after that event, or of that time (RFC 3339)",
  },
  { short: null, long: "dry-run", value: null, text: "of map restore: show the commands, and change nothing" },
  {
    short: null,
    long: "url",
    value: "URL",
    text: "the service to ask: http://..., https://... or unix:PATH of its socket",
  },
  { short: null, long: "token", value: "TOKEN", text: "bearer token for the service (MAPLEDGER_TOKEN)" },
] as const satisfies readonly Row[];

type Name = (typeof OPTIONS)[number]["long"];

/** Options that were given: true, or the value. */
export type Given = Partial<Record<Name, string | true>>;

export interface Arguments {
  readonly given: Given;
  readonly words: readonly string[];
  /** The first thing that is wrong with the options; null: nothing is. */
  readonly fault: Failure | null;
}

/** Reads options as far as they can be read: a fault is reported in the form that those before it ask for. */
export function readArguments(all: readonly string[]): Arguments {
  const given: Given = {};
  const words: string[] = [];
  const left = [...all];
  for (let word = left.shift(); word !== undefined; word = left.shift()) {
    if (word === "--") return { given, words: [...words, ...left], fault: null };
    if (!/^-./.test(word)) {
      words.push(word);
      continue;
    }
    const fault = word.startsWith("--") ? readLong(word, left, given) : readShort(word, given);
    if (fault !== null) return { given, words: [...words, ...left], fault: new Failure(fault) };
  }
  return { given, words, fault: null };
}

/** The option itself, or the only one that begins like it: --js is --json. */
function readLong(word: string, left: string[], given: Given): string | null {
  const equals = word.indexOf("=");
  const name = word.slice(2, equals === -1 ? undefined : equals);
  const alike = OPTIONS.filter(({ long }) => long.startsWith(name));
  const row = alike.find(({ long }) => long === name) ?? (alike.length === 1 ? alike[0] : undefined);
  if (row === undefined) return `unrecognized option '${word}'`;
  if (row.value === null) {
    if (equals !== -1) return `option '--${row.long}' takes no value`;
    given[row.long] = true;
    return null;
  }
  const value = equals === -1 ? left.shift() : word.slice(equals + 1);
  if (value === undefined || value === "") return `option '--${row.long}' needs a value: ${row.value}`;
  given[row.long] = value;
  return null;
}

/** One letter or several: -jf is -j -f. */
function readShort(word: string, given: Given): string | null {
  for (const letter of word.slice(1)) {
    const row = OPTIONS.find(({ short }) => short === letter);
    if (row === undefined) return `unrecognized option '${word}'`;
    given[row.long] = true;
  }
  return null;
}
