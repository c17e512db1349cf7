/**
 * The thread of archived events, beside all others. It unpacks the segments that questions need, each into a database
 * of its own (`index/segment_file.ts`); `archive/at_hand.ts` says who asks it.
 */

import { ArchivedEvents } from "../data/archived_events.ts";
import { ArchivedLog } from "../data/archived_log.ts";
import { EventsArchived } from "../engine/archives.ts";
import { ARCHIVED } from "../index/protocol.ts";
import { filterWithBuffer } from "../log/row_transfer.ts";
import { thisThread } from "../supervisor/thread.ts";

const thread = thisThread(ARCHIVED);
const places = thread.data;
const archived = new ArchivedLog(places, (message) => thread.report(message));
const events = new ArchivedEvents(archived, places);

/** Questions are answered one after the other, because each may have to unpack a segment. */
let answering: Promise<unknown> = Promise.resolve();

function inTurn<Answer>(read: () => Answer | Promise<Answer>): Promise<Answer> {
  const answer = answering.then(() => atHand(read));
  answering = answer.catch(() => {});
  return answer;
}

/**
 * If archived events cannot be read, for example because the disk has no room to unpack them, they count as not at
 * hand: reports the error, and throws EventsArchived.
 */
async function atHand<Answer>(read: () => Answer | Promise<Answer>): Promise<Answer> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof EventsArchived) throw error;
    thread.report(`reading archived events: ${(error as Error).message}`);
    throw new EventsArchived(archived.log.archivedThrough + 1);
  }
}

thread.serve(
  {
    // Each page of events asks this, even one without archived events, so it does not wait for questions about archived
    // events.
    oldestSeq: () => atHand(() => events.oldestSeq),
    query: ({ filter, range, kept }) => inTurn(() => events.query(filterWithBuffer(filter), range, kept)),
    event: ({ seq }) => inTurn(() => events.event(seq)),
    mark: ({ seq }) => inTurn(() => events.mark(seq)),
    row: ({ seq }) => inTurn(() => events.row(seq)),
    peers: ({ sessions }) => inTurn(() => events.peers(sessions)),
    lastBefore: ({ timeUs }) => inTurn(() => events.lastBefore(timeUs)),
  },
  {
    close() {
      answering.then(() => {
        events.close();
        thread.close();
      });
    },
  },
);
