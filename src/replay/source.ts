import type { EventRow } from "../log/event.ts";
import type { Selection } from "./selection.ts";

/** Where events come from: a log's file, another mapledger, an export. */
export interface Source {
  /** Throws an Error where a position is none in the log that is read. Left out: it cannot tell. */
  check?(position: string): Promise<void>;
  /** How much there is, for a progress bar; null: nobody knows. */
  readonly extent: { readonly total: number; readonly unit: "events" | "bytes" } | null;
  /** How much has been read, in the same unit. */
  readonly done: number;
  /** Ascending by seq, those of the range at least; a source may give others, too. Throws an Error that says what is wrong where. */
  read(range: Pick<Selection, "afterSeq" | "beforeSeq">): AsyncIterable<EventRow>;
  /** The events from one moment to another. Left out: it cannot tell before it is read, and each event's own time decides. */
  between?(sinceUs: number | undefined, untilUs: number | undefined): Promise<Stretch>;
}

/** Events above one seq, up to another. */
interface Stretch {
  readonly after: number;
  readonly until: number;
}

/** The same selection with seqs in place of times, if the source can tell. */
export async function inSeqs(source: Source, selection: Selection): Promise<Selection> {
  const { sinceUs, untilUs, ...fields } = selection;
  if (source.between === undefined || (sinceUs === undefined && untilUs === undefined)) return selection;
  const { after, until } = await source.between(sinceUs, untilUs);
  const { afterSeq = 0, beforeSeq = Number.POSITIVE_INFINITY } = fields;
  return { ...fields, afterSeq: Math.max(after, afterSeq), beforeSeq: Math.min(until + 1, beforeSeq) };
}

/** Of all events there are, those from one moment to another, as EventFilter has them. */
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
