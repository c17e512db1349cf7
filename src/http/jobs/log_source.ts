import type { EventRange, EventReader } from "../../engine/events.ts";
import type { EventRow } from "../../log/event.ts";
import type { EventFilter } from "../../log/event_filter.ts";
import type { Selection } from "../../replay/selection.ts";
import type { Source } from "../../replay/source.ts";

/** The most events that are read at once. */
const CHUNK_EVENTS = 64;
const LAST = { afterSeq: 0, limit: 1 } as const;

/** The service's own log as the source of a replay. It ends at `lastSeq`: events recorded later are not replayed. */
export class OwnLogSource implements Source {
  readonly extent: { readonly total: number; readonly unit: "events" };
  done = 0;
  readonly #events: EventReader;
  readonly #filter: EventFilter;

  /** The log's reader applies `filter`; {} matches all events. */
  constructor(events: EventReader, filter: EventFilter, lastSeq: number) {
    this.#events = events;
    this.#filter = filter;
    this.extent = { total: lastSeq, unit: "events" };
  }

  async between(
    sinceUs: number | undefined,
    untilUs: number | undefined,
  ): Promise<{ readonly after: number; readonly until: number }> {
    const { total } = this.extent;
    const after = sinceUs === undefined ? 0 : await this.#edge({ sinceUs }, { afterSeq: 0, limit: 1 });
    const until = untilUs === undefined ? total : await this.#edge({ untilUs }, { ...LAST, beforeSeq: total + 1 });
    return { after, until };
  }

  /**
   * The seq before the first match (if there is none, the log's last seq); or, if the range has `beforeSeq`, the seq of
   * the last match below it (if there is none, 0).
   */
  async #edge(filter: EventFilter, range: EventRange): Promise<number> {
    const isBackward = range.beforeSeq !== undefined;
    const { rows, reached, more } = await this.#events.query(filter, range);
    const [row] = rows;
    if (row !== undefined) return isBackward ? row.seq : row.seq - 1;
    if (!more) return isBackward ? 0 : reached;
    return this.#edge(filter, isBackward ? { ...range, beforeSeq: reached } : { ...range, afterSeq: reached });
  }

  async *read({ afterSeq = 0 }: Pick<Selection, "afterSeq">): AsyncIterable<EventRow> {
    this.done = afterSeq;
    for (;;) {
      const range = { afterSeq: this.done, limit: CHUNK_EVENTS };
      const { rows, reached, more, over } = await this.#events.query(this.#filter, range);
      for (const row of rows) {
        if (row.seq > this.extent.total) return;
        yield row;
        this.done = row.seq;
      }
      this.done = Math.max(this.done, reached);
      if (!more || over || this.done >= this.extent.total) return;
    }
  }
}
