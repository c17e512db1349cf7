/**
 * Follows the log at a reader's pace: reads a chunk of events, yields it, and waits at the log's end until the engine
 * reports that the log has grown. Events are read from the log, never queued for a reader, so a slow reader costs
 * others nothing. Each chunk says up to which seq events were examined; a reader that reconnects continues there.
 */

import type { Settings } from "../../config.ts";
import type { EventReader, MarkedRow } from "../../engine/events.ts";
import type { EventFilter } from "../../log/event_filter.ts";
import type { EngineDoor } from "../server/ports.ts";

/** The most events that one read returns. */
const CHUNK_EVENTS = 64;
/** The shortest time between two reads at the log's end. Events of a shorter interval are read together. */
const PAUSE_MS = 10;
const MS = 1000;

export interface FollowParts {
  readonly engine: Pick<EngineDoor, "seq" | "onGrowth">;
  readonly events: Pick<EventReader, "query">;
  readonly settings: Pick<Settings, "bookmarkSeconds" | "lagEventsMax">;
}

/** The items of a followed log. */
export type Followed =
  | { readonly kind: "events"; readonly rows: readonly MarkedRow[] }
  /** All events up to this seq were examined, and all matching ones were yielded. */
  | { readonly kind: "bookmark"; readonly seq: number; readonly mark: number }
  /** The reader is more than `lagEventsMax` events behind the log's end. It misses nothing. */
  | { readonly kind: "lagging"; readonly at: number; readonly mark: number; readonly last: number };

/**
 * Yields matching events after `after`, as the log grows, at the consumer's pace; and a bookmark if `bookmarkSeconds`
 * pass without events. Ends when the signal is aborted, or when no later event can match.
 */
export async function* follow(
  { engine, events, settings }: FollowParts,
  filter: EventFilter,
  after: number,
  signal: AbortSignal,
): AsyncGenerator<Followed> {
  const bookmarkMs = settings.bookmarkSeconds * MS;
  let toldMs = performance.now();
  let lagging = false;
  for (let at = after; ; ) {
    const readMs = performance.now();
    const { rows, reached, mark, more, over } = await events.query(filter, { afterSeq: at, limit: CHUNK_EVENTS });
    at = reached;
    if (rows.length > 0) {
      yield { kind: "events", rows };
      toldMs = performance.now();
    }
    const { seq: last } = engine;
    const isBehind = last - at > settings.lagEventsMax;
    if (isBehind && !lagging) yield { kind: "lagging", at, mark, last };
    lagging = isBehind;
    if (!more && !signal.aborted) {
      if (over) return;
      await grown(engine, at, toldMs + bookmarkMs - performance.now(), signal);
      await resting(readMs + PAUSE_MS - performance.now(), signal);
    }
    if (signal.aborted) return;
    if (performance.now() - toldMs >= bookmarkMs) {
      yield { kind: "bookmark", seq: at, mark };
      toldMs = performance.now();
    }
  }
}

/** Waits until the log has events after `seq`, the time is up or the signal is aborted. */
function grown(engine: FollowParts["engine"], seq: number, ms: number, signal: AbortSignal): Promise<void> {
  if (engine.seq > seq) return Promise.resolve();
  return until(ms, signal, (done) => engine.onGrowth(() => engine.seq > seq && done()));
}

function resting(ms: number, signal: AbortSignal): Promise<void> {
  return ms <= 0 ? Promise.resolve() : until(ms, signal, () => () => {});
}

/** Waits until `watch` calls back, the time is up or the signal is aborted. */
function until(ms: number, signal: AbortSignal, watch: (done: () => void) => () => void): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      unwatch();
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, Math.max(ms, 0));
    const unwatch = watch(done);
    signal.addEventListener("abort", done);
    if (signal.aborted) done();
  });
}
