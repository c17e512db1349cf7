import type { EventRow } from "../log/event.ts";

/** Which events: those that match every field given. */
export interface EventFilter {
  readonly map?: number;
  readonly session?: number;
  readonly caller?: string;
  readonly cmd?: number;
  /** 0: those that succeeded. */
  readonly errno?: number;
  /** What the key begins with; of a batch, any of its keys. */
  readonly key?: Buffer;
  readonly afterSeq: number;
  readonly limit: number;
  /** From this moment on, and up to that one; microseconds since the epoch, both included. */
  readonly sinceUs?: number;
  readonly untilUs?: number;
}

/** What reads the log for those who ask about it, beside the engine that writes it. */
export interface EventReader {
  /** Ascending by seq; fewer than `limit` also where they are large, none where there are no more. */
  query(filter: EventFilter): Promise<EventRow[]>;
  event(seq: number): Promise<EventRow | null>;
  lastSeq(): Promise<number>;
  close(): Promise<void>;
}
