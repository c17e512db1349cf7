/**
 * Follows the log. A stream reads for itself until it has reached the log's end, or the place of a shared tail that
 * sends the same messages; from then on one read and one text serve all streams of that tail (`shared_tails.ts`). If
 * its reader is too slow for that, the stream reads for itself again, at the reader's pace, and costs the others
 * nothing.
 */

import type { MarkedRow } from "../../engine/events.ts";
import { inPieces } from "../server/pieces.ts";
import { bytesOf } from "./event_pages.ts";
import type { SharedTails } from "./shared_tails.ts";
import type { FollowParts, Message, Reader, Subject } from "./subject.ts";

/** The most events of one read of a stream that reads for itself. */
const CHUNK_EVENTS = 64;
const MS = 1000;

/**
 * Yields the texts of a subject's messages as the log grows. They begin after the event `from.seq` and the first
 * `from.told` messages of the next event. Texts of a shared tail are written to the outlet instead of being yielded.
 * Ends when the signal is aborted, or when no message can follow.
 */
export async function* follow(
  parts: FollowParts,
  tails: SharedTails,
  subject: Subject,
  from: { readonly seq: number; readonly told: number },
  reader: Reader,
): AsyncGenerator<string> {
  const { engine, settings } = parts;
  const { load, signal } = reader;
  let { seq, told } = from;
  let toldMs = performance.now();
  let isLagging = false;
  while (!signal.aborted) {
    const { rows, reached, mark, more, over } = await subject.query({ afterSeq: seq, limit: CHUNK_EVENTS });
    const place = { seq: Math.max(reached, seq), mark };
    // The seat is made before these rows are sent, which may take long: meanwhile the tail keeps the chunks after them.
    const seat = !more || tails.isBehind(subject, place.seq) ? tails.seat(parts, subject, place, reader) : null;
    if (!(await subject.isSeen())) return;
    if (rows.length > 0) {
      const last = rows.findIndex((row) => subject.isLast(row));
      const shown = last === -1 ? rows : rows.slice(0, last + 1);
      load.hold(bytesOf(shown));
      yield* inPieces(textsOf(shown, await subject.telling(shown), { seq: seq + 1, told }));
      load.giveAll();
      if (last !== -1) return;
      toldMs = performance.now();
    }
    if (reached > seq) [seq, told] = [reached, 0];
    const { seq: end } = engine;
    const isBehind = end - seq > settings.lagEventsMax;
    if (isBehind && !isLagging) yield subject.lagging(seq, mark, end);
    isLagging = isBehind;
    if (over && !more) return;
    if (seat !== null) {
      const left = await seat.take({ toldMs, isLagging });
      if (left === null) return;
      ({ seq, told, toldMs, isLagging } = left);
    } else if (performance.now() - toldMs >= settings.bookmarkSeconds * MS) {
      yield subject.bookmark(seq, mark);
      toldMs = performance.now();
    }
  }
}

/** The texts of the rows' messages. `partly`: the first `told` messages of this event are left out. */
function* textsOf(
  rows: readonly MarkedRow[],
  messagesOf: (row: MarkedRow) => Iterable<Message>,
  partly: { readonly seq: number; readonly told: number },
): Iterable<string> {
  for (const row of rows) {
    let skipped = row.seq === partly.seq ? partly.told : 0;
    for (const { texts } of messagesOf(row)) {
      if (skipped > 0) skipped--;
      else yield* texts;
    }
  }
}
