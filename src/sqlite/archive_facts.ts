import type { Archived } from "../engine/archives.ts";
import { ENTRY_BYTES } from "../log/canonical.ts";
import type { ArchiveCommand } from "../syscall/command.ts";
import { TILE_HASHES } from "../tlog/tiles.ts";
import type { KeptEntries } from "../tree/ports.ts";

/** The ledger's fact of what is archived: written with the ARCHIVE event, in one transaction. */
export const ARCHIVED = "archived";

export function archivedFact({ through, time_us, directory, state }: ArchiveCommand["attr"]): string {
  return JSON.stringify({ through, timeUs: time_us, directory, state: state.sha256 } satisfies Archived);
}

/** undefined, or "": there is no such fact yet. Throws an Error that says so where it is none that a command has set. */
export function readArchived(fact: string | undefined): Archived {
  if (fact === undefined || fact === "") return NONE;
  const archived = parsed<Archived>(fact);
  const { through, timeUs, directory, state } = archived ?? NONE;
  if (archived === null || !isSeq(through) || !Number.isSafeInteger(timeUs) || !areTexts(directory, state))
    throw unreadable(ARCHIVED);
  return archived;
}

function parsed<Fact>(fact: string): Fact | null {
  try {
    return JSON.parse(fact) as Fact | null;
  } catch {
    return null;
  }
}

function isSeq(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 1;
}

function areTexts(...values: readonly unknown[]): boolean {
  return values.every((value) => typeof value === "string");
}

function unreadable(name: string): Error {
  return new Error(`the ledger's fact "${name}" is none that mapledger writes`);
}

const NONE: Archived = { through: 0, timeUs: 0, directory: "", state: "" };

/** The ledger's fact of the entries of archived events whose entry bundle has others, too. */
export const ARCHIVED_ENTRIES = "archived_entries";

const NO_ENTRIES: KeptEntries = { first: 1, entries: [] };

/** "": there is no such fact. Throws an Error that says so where it is none that goes with the removal of rows. */
export function readEntries(fact: string): KeptEntries {
  if (fact === "") return NO_ENTRIES;
  const { first, entries } = parsed<{ first: number; entries: string }>(fact) ?? { first: 0, entries: "" };
  if (!isSeq(first) || !areTexts(entries)) throw unreadable(ARCHIVED_ENTRIES);
  const bytes = Buffer.from(entries, "base64");
  if (bytes.length % ENTRY_BYTES !== 0) throw unreadable(ARCHIVED_ENTRIES);
  const count = bytes.length / ENTRY_BYTES;
  return {
    first,
    entries: Array.from({ length: count }, (_, at) => bytes.subarray(at * ENTRY_BYTES, (at + 1) * ENTRY_BYTES)),
  };
}

/** The entries of archived events that are to be kept: of those whose rows are gone, the ones that are in the bundle behind `through`. */
export function entriesToKeep(
  through: number,
  goneThrough: number,
): { readonly first: number; readonly count: number } {
  const first = through - (through % TILE_HASHES) + 1;
  return { first, count: Math.max(Math.min(goneThrough, through) - first + 1, 0) };
}

/**
 * The fact with the entries of archived events `from` to `until` that are in the same bundle as the first one behind `through`;
 * null: there are none of these, or those before them were not kept.
 */
export function addEntries(
  fact: string,
  { from, until, through }: { readonly from: number; readonly until: number; readonly through: number },
  entryOf: (seq: number) => Buffer,
): string | null {
  const { first } = entriesToKeep(through, until);
  const known = readEntries(fact);
  const entries = known.first === first ? [...known.entries] : [];
  if (until < first || from > first + entries.length) return null;
  for (let seq = first + entries.length; seq <= until; seq++) entries.push(entryOf(seq));
  return JSON.stringify({ first, entries: Buffer.concat(entries).toString("base64") });
}
