import { CMD } from "../abi/service.ts";
import type { MapView } from "../engine/queries.ts";
import { type Event, type EventRow, rowEvent } from "../log/event.ts";
import { timeText } from "../log/event_json.ts";
import { effectsIn } from "../log/touched.ts";
import { type EffectShape, effectsOn } from "../syscall/effects.ts";
import type { Outcome } from "../syscall/outcome.ts";
import { lastKey } from "./bulk.ts";
import { follow } from "./follow.ts";
import { mapJson } from "./json.ts";
import type { Parts, Ran } from "./parts.ts";

/** Elements of a snapshot that are read at once. Those of a larger map are read as of the first page's seq. */
const PAGE_ELEMENTS = 65_536;

/** Something that somebody who watches a map is told. `id`: everything up to this seq has been told with it. */
export interface Told {
  readonly event: "begin" | "snapshot" | "synced" | "put" | "delete" | "frozen" | "freed" | "bookmark" | "lagging";
  readonly data: Readonly<Record<string, unknown>>;
  readonly id?: number;
}

/** What reads a page of a map's elements; `after` null: the first. */
export function elementsRequest(map: number, caller: string, after: Buffer | null = null) {
  const target = { by: "id", id: map } as const;
  return { cmd: CMD.MAP_ELEMENTS, session: 0, caller, target, attr: { after, limit: PAGE_ELEMENTS } } as const;
}

/** The elements as they were when the first page was read, page after page: no two of them are held at once. */
export async function* snapshot(
  { past }: Pick<Parts, "past">,
  map: MapView,
  caller: string,
  first: Ran,
): AsyncGenerator<Iterable<Told>> {
  const { seq } = first;
  yield [{ event: "begin", data: { seq, map: mapJson(map) } }];
  for (let page = first.outcome; ; ) {
    yield elementsIn(page, seq);
    if (page.out?.more !== true) break;
    const after = Buffer.from(lastKey(page), "hex");
    page = (await past.run({ seq }, elementsRequest(map.id, caller, after))).answer;
    if (page.errno !== 0) throw new Error(`reading map ${map.id} as of ${seq}: ${page.detail}`);
  }
  yield [{ event: "synced", data: { seq }, id: seq }];
}

/** What becomes of the elements after `after`, change by change. Ends with the map. */
export async function* changes(
  parts: Pick<Parts, "engine" | "events" | "settings">,
  map: MapView,
  after: number,
  signal: AbortSignal,
): AsyncGenerator<Iterable<Told>> {
  for await (const told of follow(parts, { map: map.id, changing: true }, after, signal)) {
    if (told.kind === "bookmark") yield [{ event: "bookmark", data: { seq: told.seq }, id: told.seq }];
    else if (told.kind === "lagging") yield [{ event: "lagging", data: { at: told.at, last: told.last } }];
    else {
      const last = told.rows.findIndex((row) => effectsIn(row)?.freed?.includes(map.id));
      yield changesOf(map, last === -1 ? told.rows : told.rows.slice(0, last + 1));
      if (last !== -1) return;
    }
  }
}

function* changesOf(map: MapView, rows: readonly EventRow[]): Iterable<Told> {
  for (const row of rows) yield* withId(changesIn({ map, valueBytes: map.valueBytes }, row), row.seq);
}

function* changesIn(shape: EffectShape, row: EventRow): Iterable<Told> {
  const { command, outcome }: Event = rowEvent(row);
  const { id } = shape.map;
  const when = { seq: row.seq, time: timeText(row.time_us) };
  for (const effect of effectsOn(shape, command, outcome)) {
    const key = effect.key.toString("hex");
    if (effect.kind === "put") yield { event: "put", data: { ...when, key, value: effect.shown.toString("hex") } };
    else yield { event: "delete", data: { ...when, key, value: null } };
  }
  if (command.cmd === CMD.BPF_MAP_FREEZE && outcome.errno === 0 && outcome.map === id)
    yield { event: "frozen", data: when };
  if (outcome.out?.freed?.includes(id) === true) yield { event: "freed", data: when };
}

/** The last of an event's changes has its seq for an id: who was cut off before it is told of all of them again. */
function* withId(told: Iterable<Told>, id: number): Iterable<Told> {
  let last: Told | null = null;
  for (const one of told) {
    if (last !== null) yield last;
    last = one;
  }
  if (last !== null) yield { ...last, id };
}

function* elementsIn({ key: keys, value: values, out }: Outcome, seq: number): Iterable<Told> {
  const count = out?.count ?? 0;
  if (keys === null || values === null) return;
  const keyBytes = keys.length / count;
  const valueBytes = values.length / count;
  for (let at = 0; at < count; at++) {
    const key = keys.toString("hex", at * keyBytes, (at + 1) * keyBytes);
    yield {
      event: "snapshot",
      data: { seq, key, value: values.toString("hex", at * valueBytes, (at + 1) * valueBytes) },
    };
  }
}
