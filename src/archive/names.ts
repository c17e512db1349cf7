/** A file of an archive: events `first` to `through`, or the snapshot of the state right after event `through`. */
export type ArchiveFile =
  | { readonly is: "events"; readonly name: string; readonly first: number; readonly through: number }
  | { readonly is: "state"; readonly name: string; readonly through: number };

/** Seqs are padded to this many digits, so that names sort by seq: events-000000000001-000000100000.ndjson.zst. */
const DIGITS = 12;
const EVENTS = /^events-(\d{12,})-(\d{12,})\.ndjson\.zst$/;
const STATE = /^state-(\d{12,})\.ndjson\.zst$/;

export function eventsName(first: number, through: number): string {
  return `events-${digits(first)}-${digits(through)}.ndjson.zst`;
}

export function stateName(through: number): string {
  return `state-${digits(through)}.ndjson.zst`;
}

/**
 * Returns null if the name is not that of a segment or snapshot. A segment must have an event: with one that ends
 * before it begins, a walk from segment to segment would not end.
 */
export function readName(name: string): ArchiveFile | null {
  const [, state = ""] = STATE.exec(name) ?? [];
  if (state !== "") return Number.isSafeInteger(Number(state)) ? { is: "state", name, through: Number(state) } : null;
  const [, first = 0, through = -1] = EVENTS.exec(name)?.map(Number) ?? [];
  if (first < 1 || first > through || !Number.isSafeInteger(through)) return null;
  return { is: "events", name, first, through };
}

function digits(seq: number): string {
  return String(seq).padStart(DIGITS, "0");
}
