/**
 * Watches of a map. A watch begins with all elements: a command reads the first page, and the other pages are read as
 * of that command's seq (`element_pages.ts`). Then it follows the log from that seq, and sends each change that an
 * event made to the map's elements (`syscall/effects.ts`).
 */

import { CMD } from "../../abi/service.ts";
import { withHex } from "../../codec/elements.ts";
import type { MarkedRow } from "../../engine/events.ts";
import type { MapView } from "../../engine/views.ts";
import { type Event, type EventRow, rowEvent } from "../../log/event.ts";
import { timeText } from "../../log/event_json.ts";
import { effectsIn } from "../../log/event_subjects.ts";
import type { PositionWriter } from "../../log/position.ts";
import { type EffectShape, effectsOn } from "../../syscall/effects.ts";
import { WHOLE_MAP } from "../../syscall/elements.ts";
import type { Outcome } from "../../syscall/outcome.ts";
import type { Ran } from "../server/commands.ts";
import type { Load } from "../server/flight.ts";
import { mapJson } from "../views/json.ts";
import type { Sight } from "../views/sight.ts";
import { type ElementParts, elementPages } from "./element_pages.ts";
import { eventBytes } from "./event_text.ts";
import { type FollowParts, follow } from "./follow.ts";
import type { Anew, Resumed } from "./resumed_watch.ts";

/** Up to this many bytes, the hex of values is made as one text. */
const SHORT_BYTES = 64 * 1024;

/** A message to the client of a watch. Buffers in `data` are sent as hex. `id`: the position after the message. */
export interface WatchMessage {
  readonly event: "begin" | "snapshot" | "synced" | "put" | "delete" | "frozen" | "freed" | "bookmark" | "lagging";
  readonly data: Readonly<Record<string, unknown>>;
  readonly id: string;
}

/** The JSON of a message's data, in pieces if its bytes are many. */
export function dataText(data: WatchMessage["data"]): Iterable<string> {
  const fields = Object.entries(data).filter((field): field is [string, Buffer] => Buffer.isBuffer(field[1]));
  const isLong = fields.reduce((sum, [, bytes]) => sum + bytes.length, 0) > SHORT_BYTES;
  const shown = fields.map(([name, bytes]) => [name, isLong ? "" : bytes.toString("hex")]);
  const json = JSON.stringify({ ...data, ...Object.fromEntries(shown) });
  return isLong ? withHex(json, fields) : [json];
}

/** The watched map, and the writer of its positions. */
export interface Watching {
  readonly map: MapView;
  readonly writer: PositionWriter;
}

/** The elements as of the first page. `anew`: why a watch that was to continue begins anew. */
export async function* snapshot(
  parts: ElementParts,
  load: Load,
  { map, writer }: Watching,
  caller: string,
  { anew, first, mark }: { readonly anew: Anew | null; readonly first: Ran; readonly mark: number },
): AsyncGenerator<Iterable<WatchMessage>> {
  const { seq } = first;
  const within = writer.snapshot(seq, mark);
  yield [{ event: "begin", data: { seq, map: mapJson(map), anew }, id: within }];
  for await (const page of elementPages(parts, load, caller, WHOLE_MAP, first)) yield elementsIn(page, seq, within);
  yield [{ event: "synced", data: { seq }, id: writer.at(seq, mark) }];
}

/**
 * The changes of the elements after the event `after`, without the first `told` changes of the next event. Ends with
 * the map's end, or if the caller may no longer see the map, which is checked before each group of messages.
 */
export async function* changes(
  parts: FollowParts,
  load: Load,
  { map, writer }: Watching,
  { after, told: toldBefore }: Pick<Resumed, "after" | "told">,
  signal: AbortSignal,
  sight: Pick<Sight, "covered"> | null,
): AsyncGenerator<Iterable<WatchMessage>> {
  const positions = { map, writer };
  const partly = toldBefore === 0 ? null : { seq: after + 1, told: toldBefore };
  for await (const told of follow(parts, { map: map.id, changing: true }, after, signal)) {
    if (sight !== null && !(await sight.covered("read", [map.id])).has(map.id)) return;
    if (told.kind === "bookmark")
      yield [{ event: "bookmark", data: { seq: told.seq }, id: writer.at(told.seq, told.mark) }];
    else if (told.kind === "lagging") {
      const { at, last } = told;
      yield [{ event: "lagging", data: { at, last }, id: writer.at(at, told.mark) }];
    } else {
      const last = told.rows.findIndex((row) => effectsIn(row)?.freed?.includes(map.id));
      load.hold(told.rows.reduce((sum, row) => sum + eventBytes(row), 0));
      yield changesOf(positions, last === -1 ? told.rows : told.rows.slice(0, last + 1), partly);
      load.giveAll();
      if (last !== -1) return;
    }
  }
}

/** `partly`: an event whose first `told` changes are left out. */
function* changesOf(
  watching: Watching,
  rows: readonly MarkedRow[],
  partly: { readonly seq: number; readonly told: number } | null,
): Iterable<WatchMessage> {
  for (const row of rows) yield* withIds(watching, row, row.seq === partly?.seq ? partly.told : 0);
}

function* changesIn(shape: EffectShape, row: EventRow): Iterable<Omit<WatchMessage, "id">> {
  const { command, outcome }: Event = rowEvent(row);
  const { id } = shape.map;
  const when = { seq: row.seq, time: timeText(row.time_us) };
  for (const effect of effectsOn(shape, command, outcome)) {
    const { key } = effect;
    if (effect.kind === "put") yield { event: "put", data: { ...when, key, value: effect.shown } };
    else yield { event: "delete", data: { ...when, key, value: null } };
  }
  if (command.cmd === CMD.BPF_MAP_FREEZE && outcome.errno === 0 && outcome.map === id)
    yield { event: "frozen", data: when };
  if (outcome.out?.freed?.includes(id) === true) yield { event: "freed", data: when };
}

/**
 * Adds the ids. Except for an event's last change, an id has the number of the event's changes up to it, so that a
 * watch that breaks off can continue within the event.
 */
function* withIds({ map, writer }: Watching, row: MarkedRow, toldBefore: number): Iterable<WatchMessage> {
  const { seq, mark } = row;
  let count = 0;
  let last: Omit<WatchMessage, "id"> | null = null;
  for (const one of changesIn({ map, valueBytes: map.valueBytes }, row)) {
    if (last !== null && count > toldBefore) yield { ...last, id: writer.changes(seq, mark, count) };
    last = one;
    count++;
  }
  if (last !== null && count > toldBefore) yield { ...last, id: writer.at(seq, mark) };
}

function* elementsIn({ key: keys, value: values, out }: Outcome, seq: number, id: string): Iterable<WatchMessage> {
  const count = out?.count ?? 0;
  if (keys === null || values === null) return;
  const keyBytes = keys.length / count;
  const valueBytes = values.length / count;
  for (let at = 0; at < count; at++) {
    const key = keys.subarray(at * keyBytes, (at + 1) * keyBytes);
    yield { event: "snapshot", data: { seq, key, value: values.subarray(at * valueBytes, (at + 1) * valueBytes) }, id };
  }
}
