import { type Api, Refused } from "../../../client/api.ts";
import type { Call } from "../call.ts";
import { FILTERS } from "../event_commands.ts";
import { type LogEvent, printEvents, readFilters } from "../event_text.ts";
import { Failure, refusal } from "../failure.ts";
import { readNumber } from "../words.ts";

const LAST = 20;
const PAGE = 1000;
const LIMIT_MAX = 2 ** 32 - 1;

interface Page {
  readonly events: readonly LogEvent[];
  readonly next: string | null;
  readonly prev: string | null;
}

type Query = Readonly<Record<string, string>>;

/** event list [filters] [after POSITION] [before POSITION] [limit N] */
export async function eventList({ api, output, words }: Call): Promise<void> {
  const { after, before, limit, ...filters } = readFilters(words, [
    ...FILTERS.map(({ word }) => word),
    "after",
    "before",
    "limit",
  ]);
  const most = limit === undefined ? null : readNumber(limit, LIMIT_MAX);
  if (limit !== undefined && most === null) throw new Failure(`can't parse ${limit} as limit`);
  const isForwards = before === undefined && (after !== undefined || filters.since !== undefined);
  const events = isForwards
    ? forwards(api, { ...filters, ...(after !== undefined && { after }) }, most)
    : backwards(api, filters, before ?? String(Number.MAX_SAFE_INTEGER), most ?? LAST, after);
  try {
    await printEvents(output, events);
  } catch (error) {
    throw error instanceof Refused ? refusal("can't list events", error) : error;
  }
}

async function* forwards(api: Api, query: Query, most: number | null): AsyncIterable<LogEvent> {
  if (most === null) return yield* api.lines<LogEvent>("/v1/events", query);
  let left = most;
  for (let after: string | null = query.after ?? "0"; after !== null && left > 0; ) {
    const page: Page = await api.get("/v1/events", { ...query, after, limit: Math.min(left, PAGE) });
    yield* page.events;
    left -= page.events.length;
    after = page.next;
  }
}

/** The last `most` events before a position, ascending; `after`: none of those up to this seq. */
async function* backwards(
  api: Api,
  query: Query,
  before: string,
  most: number,
  after: string | undefined,
): AsyncIterable<LogEvent> {
  const floor = after === undefined ? 0 : (readNumber(after, Number.MAX_SAFE_INTEGER) ?? null);
  if (floor === null) throw new Failure("with before, after is a seq");
  const pages: (readonly LogEvent[])[] = [];
  let left = most;
  for (let at: string | null = before; at !== null && left > 0; ) {
    const page: Page = await api.get("/v1/events", { ...query, before: at, limit: Math.min(left, PAGE) });
    pages.unshift(page.events.filter(({ seq }) => seq > floor));
    left -= page.events.length;
    at = (page.events[0]?.seq ?? Number.POSITIVE_INFINITY) <= floor ? null : page.prev;
  }
  for (const page of pages) yield* page;
}
