import type { EventReader } from "../engine/events.ts";
import type { EventRow } from "../log/event.ts";
import type { EventFilter } from "../log/event_filter.ts";
import type { Selection } from "../replay/selection.ts";
import type { Source } from "../replay/source.ts";

/** Events that are read at once. */
const CHUNK_EVENTS = 64;

/** The service's own log, up to where it ended when this was made; filtered where it is read. */
export class OwnLogSource implements Source {
  readonly extent: { readonly total: number; readonly unit: "events" };
  done = 0;
  readonly #events: EventReader;
  readonly #filter: EventFilter;

  /** `filter`: {} for every event there is. */
  constructor(events: EventReader, filter: EventFilter, lastSeq: number) {
    this.#events = events;
    this.#filter = filter;
    this.extent = { total: lastSeq, unit: "events" };
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
