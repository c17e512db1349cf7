/**
 * Follows the log. A stream reads for itself until it has come to the log's end, or to where others who are told the
 * same have come; then one read and one text serve them all (`shared_tails.ts`). A reader who is too slow for that reads
 * for himself again, at his own pace, so he costs the others nothing.
 */

import type { MarkedRow } from "../../engine/events.ts";
import { inPieces } from "../server/pieces.ts";
import { bytesOf } from "./event_pages.ts";
import type { SharedTails } from "./shared_tails.ts";
import type { FollowParts, Message, Reader, Subject } from "./subject.ts";

/** Events that one reader reads at once. */
const CHUNK_EVENTS = 64;
const MS = 1000;

/**
 * What is told of a subject behind `seq` and the first `told` messages of the event behind that, as the log grows. What is shared is
 * written to the outlet, and not yielded. Ends when the signal is aborted, or when nothing can follow.
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
    // Taken before anything is told of it, which may take its time: the tail keeps meanwhile what follows.
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

/** `partly`: an event of which so many messages are passed over. */
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
