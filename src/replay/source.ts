import type { EventRow } from "../log/event.ts";
import type { Selection } from "./selection.ts";

/** A source of events: a log's file, another mapledger, an export. */
export interface Source {
  /** Throws an Error if a position is not one of the log that is read. Left out: the source cannot check positions. */
  check?(position: string): Promise<void>;
  /** The size of the source, for a progress bar; null: unknown. */
  readonly extent: { readonly total: number; readonly unit: "events" | "bytes" } | null;
  /** The part that has been read, in the same unit. */
  readonly done: number;
  /**
   * Events by ascending seq: those of the range, and possibly others. Throws an Error that says what is wrong, and
   * where.
   */
  read(range: Pick<Selection, "afterSeq" | "beforeSeq">): AsyncIterable<EventRow>;
  /**
   * The seqs of the events between two moments. Left out: the source cannot tell before it is read, so each event's own
   * time decides.
   */
  between?(sinceUs: number | undefined, untilUs: number | undefined): Promise<Stretch>;
}

/** The events with seq > `after` and seq <= `until`. */
interface Stretch {
  readonly after: number;
  readonly until: number;
}

/** Replaces the times of a selection by seqs, if the source can find them. */
export async function inSeqs(source: Source, selection: Selection): Promise<Selection> {
  const { sinceUs, untilUs, ...fields } = selection;
  if (source.between === undefined || (sinceUs === undefined && untilUs === undefined)) return selection;
  const { after, until } = await source.between(sinceUs, untilUs);
  const { afterSeq = 0, beforeSeq = Number.POSITIVE_INFINITY } = fields;
  return { ...fields, afterSeq: Math.max(after, afterSeq), beforeSeq: Math.min(until + 1, beforeSeq) };
}

/** Finds the seqs of the events between two moments, as defined in EventFilter, by reading all events. */
export async function between(
  rows: AsyncIterable<EventRow> | Iterable<EventRow>,
  sinceUs = Number.NEGATIVE_INFINITY,
  untilUs = Number.POSITIVE_INFINITY,
): Promise<Stretch> {
  let after = 0;
  let until = 0;
  for await (const { seq, time_us } of rows) {
    if (time_us < sinceUs) after = seq;
    if (time_us <= untilUs) until = seq;
  }
  return { after, until };
}
