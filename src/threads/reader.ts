/** The reader's thread: queries over the log, beside the engine and not in its way. */
import { join } from "node:path";
import { snapshotOf } from "../data/archive_job.ts";
import { INDEX_FILE, LOG_FILE } from "../data/layout.ts";
import { EventsArchived } from "../engine/archives.ts";
import { discardIndex, EventIndex, isIndexSound, withoutIndex } from "../index/event_index.ts";
import { READER } from "../index/protocol.ts";
import { filterWithBuffer } from "../log/row_transfer.ts";
import type { MapRecord } from "../maps/map.ts";
import { Derived, faultIn, PartFailed } from "../supervisor/derived_parts.ts";
import { passGate } from "../supervisor/gate.ts";
import { thisThread } from "../supervisor/thread.ts";
import { mapsIn } from "../syscall/map_table.ts";

const thread = thisThread(READER);
const { data, gate } = thread.data;
passGate(gate);
const logFile = join(data, LOG_FILE);
const indexFile = join(data, INDEX_FILE);
const index = new Derived<EventIndex>({
  part: "index",
  open: () => new EventIndex(logFile, indexFile),
  close: (open) => open.close(),
  discard: () => discardIndex(indexFile),
  told: (fault) => thread.tell(fault),
  report: (message) => thread.report(message),
  isWhole: (open) => open.isWhole(),
  // Both files are SQLite's: an index that is sound is not made again for what the log is.
  judge(error) {
    const found = faultIn(error);
    return found === "damaged" && isIndexSound(indexFile) ? "failed" : found;
  },
});
/** What there is without an index, while it has failed. */
let bare: EventIndex | null = null;

/** The log must have rested this long before it is indexed without being asked: indexing shares the disk and the cores. */
const REST_MS = 2000;
let seen = -1;
let isClosing = false;
let timer = setTimeout(catchUp, REST_MS);

async function catchUp(): Promise<void> {
  let more = false;
  try {
    more = await index.use((open) => {
      const last = open.lastSeq();
      const rested = last === seen;
      seen = last;
      return rested && !open.isCutOff() && open.catchUp();
    });
  } catch {
    // That it has failed is told of already.
  }
  if (!isClosing) timer = setTimeout(catchUp, more ? 0 : REST_MS);
}

/** One after the other: an answer may have to wait for a snapshot. */
let answering: Promise<unknown> = Promise.resolve();

function inTurn<Answer>(run: () => Promise<Answer>): Promise<Answer> {
  const answer = answering.then(run);
  answering = answer.catch(() => {});
  return answer;
}

/** Answers from the index, or from the log without one, if the index has failed. */
interface Reading<Answer> {
  readonly from: (index: EventIndex) => Answer;
  /** undefined: only the index knows. Left out: as `from`. */
  readonly without?: (log: EventIndex) => Answer | undefined;
  /** The index takes in new events for it. */
  readonly takesIn?: boolean;
}

function read<Answer>({ from, without = from, takesIn = false }: Reading<Answer>): Promise<Answer> {
  return inTurn(async () => {
    try {
      const answer = await index.use(async (open) => {
        if (takesIn && open.isCutOff()) await skipArchived(open);
        return from(open);
      });
      if (index.fault === null) withBare(null);
      return answer;
    } catch (error) {
      if (error instanceof PartFailed) return readWithout(without, error);
      throw error;
    }
  });
}

function readWithout<Answer>(without: (log: EventIndex) => Answer | undefined, failed: PartFailed): Answer {
  try {
    const answer = without(withBare(bare ?? withoutIndex(logFile)));
    if (answer !== undefined) return answer;
  } catch (error) {
    withBare(null);
    if (error instanceof EventsArchived) throw error;
  }
  throw failed;
}

function withBare<Bare extends EventIndex | null>(now: Bare): Bare {
  if (bare !== now) bare?.close();
  bare = now;
  return now;
}

/** What the index needs to know of maps that archived events have made is in the state behind them. */
async function skipArchived(open: EventIndex): Promise<void> {
  const archived = open.archived();
  const maps: MapRecord[] = [];
  const { cells } = await snapshotOf({ id: open.logId, archived }, data);
  for await (const batch of cells) maps.push(...mapsIn(batch));
  open.skip(archived.through, maps);
}

thread.serve(
  {
    query({ filter, range }) {
      const wanted = filterWithBuffer(filter);
      return read({
        takesIn: true,
        from: (index) => index.query(wanted, range),
        without: (log) => log.queryWithout(wanted, range),
      });
    },

    event: ({ seq }) => read({ from: (index) => index.event(seq) }),

    mark: ({ seq }) => read({ from: (index) => index.mark(seq) }),

    peers: ({ sessions }) =>
      read({
        takesIn: true,
        from: (index) => index.peers(sessions),
        without: (log) => log.peersWithout(sessions),
      }),

    // The log does not know which maps archived events have touched.
    isUntouched: ({ map, afterSeq, untilSeq }) =>
      read({ from: (index) => index.isUntouched(map, afterSeq, untilSeq), without: () => false }),

    takeIn: () =>
      read({
        takesIn: true,
        from(index) {
          while (index.catchUp());
          return null;
        },
        without: () => undefined,
      }),

    keptTimes: ({ filter }) => read({ from: (index) => index.keptTimes(filterWithBuffer(filter)) }),

    oldestSeq: () => read({ from: (index) => index.archived().through + 1 }),

    lastSeq: () => read({ from: (index) => index.lastSeq() }),
  },
  {
    close() {
      isClosing = true;
      clearTimeout(timer);
      answering
        .then(() => index.close())
        .finally(() => {
          bare?.close();
          thread.close();
        });
    },
  },
);
