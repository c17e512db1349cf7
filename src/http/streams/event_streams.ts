/** Streams of events: the lines of an export, and the messages to a client that follows the log. */

import type { EventReader, MarkedRow } from "../../engine/events.ts";
import type { EventFilter } from "../../log/event_filter.ts";
import type { PositionWriter } from "../../log/position.ts";
import type { Load } from "../server/flight.ts";
import { inPieces } from "../server/pieces.ts";
import type { PeerOf, SessionPeers } from "../views/peers.ts";
import { bytesOf, CHUNK_EVENTS } from "./event_pages.ts";
import { eventText } from "./event_text.ts";
import { type FollowParts, follow } from "./follow.ts";
import { message, messageText } from "./messages.ts";

/** The parts that an event's text is made with. */
interface Telling {
  readonly peers: SessionPeers;
  readonly writer: PositionWriter;
}

/**
 * Lines of all matching events up to `last`, at the reader's pace. If nothing matches for long, only the signal ends
 * it.
 */
export async function* eventLines(
  { events, peers, writer }: Telling & { readonly events: EventReader },
  load: Load,
  filter: EventFilter,
  { after, last }: { readonly after: number; readonly last: number },
  signal: AbortSignal,
): AsyncIterable<string> {
  for (let at = after; at < last && !signal.aborted; ) {
    const { rows, reached, more } = await events.query(filter, { afterSeq: at, limit: CHUNK_EVENTS });
    load.hold(bytesOf(rows));
    yield* inPieces(linesOf(rows, last, writer, await peers.of(rows)));
    load.give(bytesOf(rows));
    if (!more) return;
    at = reached;
  }
}

function* linesOf(rows: readonly MarkedRow[], last: number, writer: PositionWriter, peerOf: PeerOf): Iterable<string> {
  for (const row of rows) {
    if (row.seq > last) return;
    yield* eventText(row, writer.at(row.seq, row.mark), peerOf(row));
    yield "\n";
  }
}

function* messagesOf(rows: readonly MarkedRow[], writer: PositionWriter, peerOf: PeerOf): Iterable<string> {
  for (const row of rows) {
    const position = writer.at(row.seq, row.mark);
    yield* messageText("event", eventText(row, position, peerOf(row)), position);
  }
}

/** Messages of matching events after `start`, as the log grows; between them bookmarks, and `lagging`. */
export async function* eventMessages(
  parts: FollowParts & Telling,
  load: Load,
  filter: EventFilter,
  start: { readonly seq: number; readonly position: string },
  signal: AbortSignal,
): AsyncIterable<string> {
  const { peers, writer } = parts;
  yield message("bookmark", JSON.stringify({ seq: start.seq }), start.position);
  for await (const told of follow(parts, filter, start.seq, signal)) {
    switch (told.kind) {
      case "events":
        load.hold(bytesOf(told.rows));
        yield* inPieces(messagesOf(told.rows, writer, await peers.of(told.rows)));
        load.give(bytesOf(told.rows));
        break;
      case "bookmark":
        yield message("bookmark", JSON.stringify({ seq: told.seq }), writer.at(told.seq, told.mark));
        break;
      case "lagging":
        yield message("lagging", JSON.stringify({ at: told.at, last: told.last }), writer.at(told.at, told.mark));
        break;
    }
  }
}
