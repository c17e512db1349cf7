/** Streams of events: the lines of an export, and the messages to a client that follows the log. */

import type { EventPage, EventReader, MarkedRow } from "../../engine/events.ts";
import type { EventFilter } from "../../log/event_filter.ts";
import type { PositionWriter } from "../../log/position.ts";
import type { Load } from "../server/flight.ts";
import { inPieces } from "../server/pieces.ts";
import type { PeerOf, SessionPeers } from "../views/peers.ts";
import { bytesOf } from "./event_pages.ts";
import { eventBytes, eventText } from "./event_text.ts";
import { follow } from "./follow.ts";
import { message, messageText } from "./messages.ts";
import type { SharedTails } from "./shared_tails.ts";
import type { FollowParts, Reader, Subject } from "./subject.ts";

/** The most events of an export that one read of the log returns; it ends at 1 MiB of keys and values, too. */
const EXPORTED_EVENTS = 512;
/** A message with more bytes is made in pieces, each when its reader takes it. */
const LARGE_BYTES = 512 * 1024;

/** The parts that an event's text is made with. */
interface Telling {
  readonly peers: SessionPeers;
  readonly writer: PositionWriter;
}

/**
 * Lines of all matching events up to `last`, at the reader's pace; while some are sent, the next ones are read. While no
 * event matches, no line is yielded, so only the signal can end the stream.
 */
export async function* eventLines(
  { events, peers, writer }: Telling & { readonly events: EventReader },
  load: Load,
  filter: EventFilter,
  { after, last }: { readonly after: number; readonly last: number },
  signal: AbortSignal,
): AsyncIterable<string> {
  const read = async (at: number): Promise<EventPage> => {
    const page = await events.query(filter, { afterSeq: at, limit: EXPORTED_EVENTS });
    load.hold(bytesOf(page.rows));
    return page;
  };
  let next = after < last ? read(after) : null;
  while (next !== null && !signal.aborted) {
    const { rows, reached, more } = await next;
    next = more && reached < last && !signal.aborted ? read(reached) : null;
    // Its error is thrown when it is its turn, if that comes.
    next?.catch(() => {});
    yield* inPieces(linesOf(rows, last, writer, await peers.of(rows)));
    load.give(bytesOf(rows));
  }
}

function* linesOf(rows: readonly MarkedRow[], last: number, writer: PositionWriter, peerOf: PeerOf): Iterable<string> {
  for (const row of rows) {
    if (row.seq > last) return;
    yield* eventText(row, writer.at(row.seq, row.mark), peerOf(row));
    yield "\n";
  }
}

/**
 * The matching events, as a subject that streams follow. `map`: the map that the filter means by a name or a pin.
 * `sight`: equal for callers who see the same events; null: the caller sees all events.
 */
export function eventSubject(
  { events, peers, writer }: Telling & { readonly events: Pick<EventReader, "query"> },
  filter: EventFilter,
  map: number | null,
  sight: string | null,
): Subject {
  const key = filter.key?.toString("hex");
  return {
    key: JSON.stringify(["events", sight, map, filterText({ ...filter, ...(key !== undefined && { key }) })]),
    // If the caller does not see all events, the query at the read decides which ones are sent.
    isKept: sight === null,
    query: (range) => events.query(filter, range),
    isSeen: async () => true,
    async telling(rows) {
      const peerOf = await peers.of(rows);
      return (row) => [{ texts: messageOf(row, writer, peerOf), told: 0 }];
    },
    isLarge: (row) => 2 * eventBytes(row) + (row.attr?.length ?? 0) + (row.out?.length ?? 0) > LARGE_BYTES,
    isLast: () => false,
    bookmark: (seq, mark) => message("bookmark", JSON.stringify({ seq }), writer.at(seq, mark)),
    lagging: (at, mark, last) => message("lagging", JSON.stringify({ at, last }), writer.at(at, mark)),
  };
}

function filterText(filter: Readonly<Record<string, unknown>>): readonly unknown[] {
  return Object.entries(filter).sort(([a], [b]) => (a < b ? -1 : 1));
}

function messageOf(row: MarkedRow, writer: PositionWriter, peerOf: PeerOf): Iterable<string> {
  const position = writer.at(row.seq, row.mark);
  return messageText("event", eventText(row, position, peerOf(row)), position);
}

/** Messages of matching events after `start`, as the log grows; between them bookmarks, and `lagging`. */
export async function* eventMessages(
  parts: FollowParts,
  subject: Subject,
  start: { readonly seq: number; readonly position: string },
  reader: Reader,
  tails: SharedTails,
): AsyncIterable<string> {
  yield message("bookmark", JSON.stringify({ seq: start.seq }), start.position);
  yield* follow(parts, tails, subject, { seq: start.seq, told: 0 }, reader);
}
