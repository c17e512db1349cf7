import { readdirSync, readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";

/** A command of a transcript with its outcome; transcripts/README.md tells what its fields mean. */
export interface Line {
  readonly at: number;
  readonly cmd: string;
  readonly out: LineOut;
  readonly [field: string]: unknown;
}

/** What a command did: `err`, or the outputs of its kind; in a transcript with the marks of how to compare. */
export interface LineOut {
  readonly err?: string;
  readonly fd?: string;
  readonly next_key?: unknown;
  readonly keys?: readonly unknown[];
  readonly values?: readonly unknown[];
  readonly count?: number;
  readonly end?: string | null;
  readonly id_of?: string;
  readonly cmp?: "set" | "partial" | "subset" | "any";
  readonly alt?: readonly string[];
  readonly one_of?: readonly unknown[];
  readonly of?: readonly unknown[];
  readonly max?: number;
  readonly [field: string]: unknown;
}

export interface Transcript {
  /** As in "random/HASH.1". */
  readonly name: string;
  readonly title: string;
  readonly lines: readonly Line[];
}

const FOLDER = new URL("./transcripts/", import.meta.url);

/** Every transcript there is, by name. */
export function readTranscripts(): Transcript[] {
  const files = readdirSync(FOLDER, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".jsonl"));
  return files.sort().map(readTranscript);
}

function readTranscript(file: string): Transcript {
  const rows = readFileSync(new URL(file, FOLDER), "utf8")
    .split("\n")
    .filter((text) => text !== "");
  const [head, ...lines] = rows.map((text) => JSON.parse(text)) as [{ title: string }, ...Line[]];
  return {
    name: file.slice(0, -".jsonl".length),
    title: head.title,
    lines: lines.filter(({ cmd }) => cmd !== undefined),
  };
}

const MARKS = new Set(["cmp", "alt", "one_of", "of", "max"]);
const PARTIAL = ["OK", "ENOENT", "ENOSPC"];

/** Whether `out` is an acceptable outcome of the line: the rules of transcripts/README.md, in their order. */
export function agrees(line: Line, out: LineOut): boolean {
  const want = line.out;
  if (want.cmp === "any") return true;
  if (want.cmp === "partial") return PARTIAL.includes(code(out)) && (out.count as number) <= (line.count as number);
  if (code(out) !== code(want)) {
    if (!want.alt?.includes(code(out))) return false;
    return out.next_key === undefined || isOneOf(out.next_key, want.one_of ?? []);
  }
  if (want.cmp === "subset") {
    const keys = out.keys ?? [];
    return keys.length <= (want.max as number) && keys.every((key) => want.of === undefined || isOneOf(key, want.of));
  }
  if (want.cmp === "set")
    return isDeepStrictEqual(pairs(out), pairs(want)) && out.count === want.count && out.end === want.end;
  if (want.one_of !== undefined && out.next_key !== undefined) return isOneOf(out.next_key, want.one_of);
  return isDeepStrictEqual(unmarked(out), unmarked(want));
}

function code(out: LineOut): string {
  return out.err ?? "OK";
}

function isOneOf(one: unknown, all: readonly unknown[]): boolean {
  return all.some((other) => isDeepStrictEqual(one, other));
}

function pairs(out: LineOut): string[] {
  const values = out.values ?? out.keys ?? [];
  return (out.keys ?? []).map((key, at) => JSON.stringify([key, values[at]])).sort();
}

function unmarked(out: LineOut): LineOut {
  return Object.fromEntries(Object.entries(out).filter(([field]) => !MARKS.has(field)));
}
