import type { EventLog } from "../../src/engine/ports.ts";
import { CanonicalWriter, rowBytes } from "../../src/log/canonical.ts";
import { type Event, type EventRow, eventRow, rowEvent } from "../../src/log/event.ts";
import type { Changes, EventOrigin, PastLog } from "../../src/past/history.ts";

/** Few, so that tests come to the end of a chunk. */
const CHUNK_EVENTS = 100;

/** The log of a test: rows as SQLite would have them, so that reading it back proves the row codec, too. */
export class MemoryLog implements EventLog, PastLog {
  readonly id = "00000000-0000-4000-8000-000000000001";
  readonly life = "00000000-0000-4000-8000-000000000002";
  readonly rows: EventRow[] = [];
  /** What the next append throws. */
  broken: Error | null = null;

  get lastSeq(): number {
    return this.rows.length;
  }

  get lastTimeUs(): number {
    return this.rows.at(-1)?.time_us ?? 0;
  }

  hashOf(seq: number): Buffer | null {
    const row = this.rows[seq - 1];
    return row === undefined ? null : new CanonicalWriter().hash(rowBytes(row));
  }

  append(events: readonly Event[]): void {
    if (this.broken !== null) throw this.broken;
    for (const event of events) this.rows.push(eventRow(event));
  }

  *read(afterSeq: number): Iterable<Event> {
    for (const row of this.rows.slice(afterSeq)) yield rowEvent(row);
  }

  readonly archivedThrough = 0;
  readonly atHandAfter = 0;

  changesAfter(seq: number, last = this.lastSeq): Changes {
    const events = this.rows.slice(seq, Math.min(seq + CHUNK_EVENTS, last)).map(rowEvent);
    return { events, until: seq + events.length };
  }

  origin(seq: number): EventOrigin {
    return this.rows[seq - 1] as EventRow;
  }

  seqAt(timeUs: number): number {
    return this.rows.findLast((row) => row.time_us <= timeUs)?.seq ?? 0;
  }

  async *changes(afterSeq: number): AsyncIterable<readonly Event[]> {
    for (let seq = afterSeq; seq < this.lastSeq; seq += CHUNK_EVENTS)
      yield this.rows.slice(seq, seq + CHUNK_EVENTS).map(rowEvent);
  }

  deleteArchived(): boolean {
    return false;
  }

  close(): void {}
}
