/**
 * The log from event 1 on. The log's own reader is asked first. If it rejects with EventsArchived, the thread of
 * archived events is asked, which has them if their archive is available (`archive/at_hand.ts`).
 */

import { EventsArchived } from "../engine/archives.ts";
import type { ArchivedReader, EventPage, EventRange, EventReader, KeptReader, MarkedRow } from "../engine/events.ts";
import type { RowBytes } from "../log/canonical.ts";
import type { EventFilter } from "../log/event_filter.ts";

export class WholeEvents implements EventReader {
  readonly #kept: KeptReader;
  readonly #archived: ArchivedReader;

  constructor(kept: KeptReader, archived: ArchivedReader) {
    this.#kept = kept;
    this.#archived = archived;
  }

  async oldestSeq(): Promise<number> {
    return this.#oldestFrom(await this.#kept.oldestSeq());
  }

  keptSeq(): Promise<number> {
    return this.#kept.oldestSeq();
  }

  lastSeq(): Promise<number> {
    return this.#kept.lastSeq();
  }

  async peers(sessions: readonly number[]): Promise<(string | null)[]> {
    const peers = await this.#kept.peers(sessions);
    const unknown = sessions.filter((_, at) => peers[at] === null);
    if (unknown.length === 0 || (await this.#kept.oldestSeq()) === 1) return peers;
    const found = await archivedElse(this.#archived.peers(unknown));
    if (typeof found === "number") return peers;
    const archived = new Map(unknown.map((session, at) => [session, found[at] ?? null]));
    return sessions.map((session, at) => peers[at] ?? archived.get(session) ?? null);
  }

  /** null also if the event is archived, and its archive is not available. */
  async mark(seq: number): Promise<number | null> {
    const kept = await this.#kept.mark(seq);
    if (kept !== null || seq >= (await this.#kept.oldestSeq())) return kept;
    return this.#archived.mark(seq).catch((error) => {
      if (error instanceof EventsArchived) return null;
      throw error;
    });
  }

  isUntouched(map: number, afterSeq: number, untilSeq: number): Promise<boolean> {
    return this.#kept.isUntouched(map, afterSeq, untilSeq);
  }

  takeIn(): Promise<void> {
    return this.#kept.takeIn();
  }

  async query(filter: EventFilter, range: EventRange): Promise<EventPage> {
    const page = await this.#query(filter, range);
    return page.mark !== 0 || page.reached === 0 ? page : { ...page, mark: (await this.mark(page.reached)) ?? 0 };
  }

  async #query(filter: EventFilter, range: EventRange): Promise<EventPage> {
    const oldest = await archivedElse(this.#kept.query(filter, { ...range, whole: true }));
    if (typeof oldest !== "number") return oldest;
    const { afterSeq, beforeSeq } = range;
    if (beforeSeq !== undefined && beforeSeq > oldest) return this.#backFrom(filter, { ...range, beforeSeq }, oldest);
    const page = await archivedElse(this.#archived.query(filter, range, await this.#kept.keptTimes(filter)));
    if (typeof page !== "number") return page;
    // The range names no archived event, and no archive is available: the page begins with the oldest kept event.
    if (afterSeq === 0 && beforeSeq === undefined && page === oldest) return this.#kept.query(filter, range);
    throw new EventsArchived(page);
  }

  /** Reads back from a kept event to an archived one. */
  async #backFrom(
    filter: EventFilter,
    range: EventRange & { readonly beforeSeq: number },
    oldest: number,
  ): Promise<EventPage> {
    const page = await this.#kept.query(filter, { ...range, afterSeq: oldest - 1 });
    if (page.more) return page;
    const first = await this.#oldestFrom(oldest);
    if (range.afterSeq > 0 && range.afterSeq + 1 < first) throw new EventsArchived(first);
    return first === oldest
      ? { ...page, reached: range.afterSeq + 1, mark: 0 }
      : { ...page, reached: oldest, mark: 0, more: true };
  }

  async event(seq: number): Promise<MarkedRow | null> {
    const row = await this.#kept.event(seq);
    if (row !== null || seq >= (await this.#kept.oldestSeq())) return row;
    return this.#archived.event(seq);
  }

  /** An archived event's columns as they were stored; null: it is not available. */
  async archivedRow(seq: number): Promise<RowBytes | null> {
    const row = await archivedElse(this.#archived.row(seq));
    return typeof row === "number" ? null : row;
  }

  async close(): Promise<void> {
    await Promise.all([this.#kept.close(), this.#archived.close()]);
  }

  #oldestFrom(kept: number): Promise<number> {
    return kept === 1 ? Promise.resolve(kept) : archivedElse(this.#archived.oldestSeq());
  }
}

/** The answer; or, if it needs archived events that are not available, the oldest event that is. */
async function archivedElse<Answer>(asked: Promise<Answer>): Promise<Answer | number> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof EventsArchived) return error.oldestSeq;
    throw error;
  }
}
