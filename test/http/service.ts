import type { InjectOptions, Response } from "light-my-request";
import { readSettings, type Settings } from "../../src/config.ts";
import { Engine, type Reply, type Request } from "../../src/engine/engine.ts";
import type { EventFilter, EventReader } from "../../src/engine/events.ts";
import { FrameWriter, readReplies, readRequests } from "../../src/engine/frames.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import type { EventLog, Mirror } from "../../src/engine/ports.ts";
import { answerQuery } from "../../src/engine/queries.ts";
import { type App, buildApp, type EngineDoor } from "../../src/http/app.ts";
import type { Authenticate } from "../../src/http/auth.ts";
import { Metrics } from "../../src/http/metrics.ts";
import { type Event, type EventRow, eventRow, rowEvent } from "../../src/log/event.ts";
import { checkAnswer } from "./document.ts";

/** The log in memory, and what reads it. */
class MemoryLog implements EventLog, EventReader {
  readonly rows: EventRow[] = [];

  get lastSeqNow(): number {
    return this.rows.length;
  }

  get lastTimeUs(): number {
    return this.rows.at(-1)?.time_us ?? 0;
  }

  append(events: readonly Event[]): void {
    for (const event of events) this.rows.push(eventRow(event));
  }

  *read(afterSeq: number): Iterable<Event> {
    for (const row of this.rows.slice(afterSeq)) yield rowEvent(row);
  }

  async query(filter: EventFilter): Promise<EventRow[]> {
    const { map, session, caller, cmd, errno, key, afterSeq, limit, sinceUs = 0, untilUs = Infinity } = filter;
    const wanted = (row: EventRow): boolean =>
      (map === undefined || row.map === map) &&
      (session === undefined || row.session === session) &&
      (caller === undefined || row.caller === caller) &&
      (cmd === undefined || row.cmd === cmd) &&
      (errno === undefined || row.errno === errno) &&
      (key === undefined || (row.key?.subarray(0, key.length).equals(key) ?? false)) &&
      row.time_us >= sinceUs &&
      row.time_us <= untilUs;
    return this.rows.slice(afterSeq).filter(wanted).slice(0, limit);
  }
}
