/**
 * Facts of the ledger about archived events: the range that is archived, and the entries of its last events. An entry
 * bundle has 256 events; if the last archived ones share it with events of the log, the entries of the archived ones
 * are kept here, written with the removal of their rows, so that the bundle can still be served.
 */

import type { Archived } from "../engine/archives.ts";
import { ENTRY_BYTES } from "../log/canonical.ts";
import type { ArchiveCommand } from "../syscall/command.ts";
import { TILE_HASHES } from "../tlog/tiles.ts";
import type { KeptEntries } from "../tree/ports.ts";

/** The ledger's fact about the archived range. It is written with the ARCHIVE event, in one transaction. */
export const ARCHIVED = "archived";

export function archivedFact({ through, time_us, directory, state }: ArchiveCommand["attr"]): string {
  return JSON.stringify({ through, timeUs: time_us, directory, state: state.sha256 } satisfies Archived);
}

/** undefined or "": nothing is archived. Throws an Error if the fact is not one that an ARCHIVE event sets. */
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
  return new Error(`the ledger's fact "${name}" does not have the form in which mapledger writes it`);
}

const NONE: Archived = { through: 0, timeUs: 0, directory: "", state: "" };

/** The ledger's fact with the entries of archived events that share their entry bundle with later events. */
export const ARCHIVED_ENTRIES = "archived_entries";

const NO_ENTRIES: KeptEntries = { first: 1, entries: [] };

/** "": no entries are kept. Throws an Error if the fact is not one that the removal of rows sets. */
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

/**
 * The entries to keep once rows up to `goneThrough` are removed: those of archived events in the bundle that also has
 * event `through` + 1. For example, with `through` 340 and all rows gone: entries 257 to 340.
 */
export function entriesToKeep(
  through: number,
  goneThrough: number,
): { readonly first: number; readonly count: number } {
  const first = through - (through % TILE_HASHES) + 1;
  return { first, count: Math.max(Math.min(goneThrough, through) - first + 1, 0) };
}

/**
 * Adds the entries of those events from `from` to `until` that are in the bundle of event `through` + 1. Returns the
 * new fact; null if none of these events is in that bundle, or if entries before `from` were not kept.
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
