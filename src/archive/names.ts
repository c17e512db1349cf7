/** A file of an archive: events `first` to `through`, or the state right after `through`. */
export type ArchiveFile =
  | { readonly is: "events"; readonly name: string; readonly first: number; readonly through: number }
  | { readonly is: "state"; readonly name: string; readonly through: number };

/** Seqs are written with so many digits, so that names order as they do. */
const DIGITS = 12;
const EVENTS = /^events-(\d{12,})-(\d{12,})\.ndjson\.zst$/;
const STATE = /^state-(\d{12,})\.ndjson\.zst$/;

export function eventsName(first: number, through: number): string {
  return `events-${digits(first)}-${digits(through)}.ndjson.zst`;
}

export function stateName(through: number): string {
  return `state-${digits(through)}.ndjson.zst`;
}

/** null: it is no name of an archive's file. A segment has an event at least: one that ends before it begins would lead back to itself. */
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
