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

/** null: it is no name of an archive's file. */
export function readName(name: string): ArchiveFile | null {
  const events = EVENTS.exec(name);
  if (events !== null) return { is: "events", name, first: Number(events[1]), through: Number(events[2]) };
  const state = STATE.exec(name);
  return state === null ? null : { is: "state", name, through: Number(state[1]) };
}

function digits(seq: number): string {
  return String(seq).padStart(DIGITS, "0");
}
