/**
 * Watches of a map. A watch begins with all elements: a command reads the first page, and the other pages are read as
 * of that command's seq (`element_pages.ts`). Then it follows the log from that seq, and sends each change that an
 * event made to the map's elements (`syscall/effects.ts`).
 */

import { CMD } from "../../abi/service.ts";
import { withHex } from "../../codec/elements.ts";
import type { EventReader, MarkedRow } from "../../engine/events.ts";
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
import { messageText } from "./messages.ts";
import type { Anew } from "./resumed_watch.ts";
import type { Message, Subject } from "./subject.ts";

/** Up to this many bytes, the hex of values is made as one text. */
const SHORT_BYTES = 64 * 1024;
/** The most bytes that a shared tail keeps of one message, and of all messages of one event. */
const MESSAGE_BYTES_MAX = 512 * 1024;
const EVENT_BYTES_MAX = 8 * 1024 * 1024;
/** About the bytes of a message without its key and value. */
const FIELDS_BYTES = 256;
/** The most bytes of messages for each byte of an event's `out`. */
const OUT_TIMES = 16;

/** A message to the client of a watch. Buffers in `data` are sent as hex. `id`: the position after the message. */
export interface WatchMessage {
  readonly event: "begin" | "snapshot" | "synced" | "put" | "delete" | "frozen" | "freed" | "bookmark" | "lagging";
  readonly data: Readonly<Record<string, unknown>>;
  readonly id: string;
}

/** The JSON of a message's data, in pieces if its bytes are many. */
function dataText(data: WatchMessage["data"]): Iterable<string> {
  let bytes = 0;
  for (const name in data) bytes += Buffer.isBuffer(data[name]) ? (data[name] as Buffer).length : 0;
  if (bytes <= SHORT_BYTES) return [`{${fieldsText(data, hexText)}}`];
  const fields = Object.entries(data).filter((field): field is [string, Buffer] => Buffer.isBuffer(field[1]));
  return withHex(`{${fieldsText(data, () => "")}}`, fields);
}

/** Writes field by field, because many messages have bytes: JSON.stringify() needs a copy of `data` with their hex. */
function fieldsText(data: WatchMessage["data"], bytesText: (bytes: Buffer) => string): string {
  let text = "";
  for (const name in data) {
    const value = data[name];
    const written = Buffer.isBuffer(value) ? `"${bytesText(value)}"` : JSON.stringify(value);
    if (written !== undefined) text += `${text === "" ? "" : ","}"${name}":${written}`;
  }
  return text;
}

function hexText(bytes: Buffer): string {
  return bytes.toString("hex");
}

/** Server-sent events. Elements of a snapshot have no id of their own: the reader's last id stays that of `begin`. */
const MESSAGES: WatchForm = {
  name: "messages",
  write: ({ event, data, id }) => messageText(event, dataText(data), event === "snapshot" ? undefined : id),
};

const LINES: WatchForm = {
  name: "lines",
  write({ event, data, id }) {
    return ended(dataText({ event, ...data, position: id }), "\n");
  },
};

function* ended(texts: Iterable<string>, end: string): Iterable<string> {
  yield* texts;
  yield end;
}

export const WATCH_FORMS = { messages: MESSAGES, lines: LINES } as const;

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

/** How messages are written. */
export interface WatchForm {
  readonly name: "messages" | "lines";
  readonly write: (message: WatchMessage) => Iterable<string>;
}

/**
 * The changes of a map's elements, as streams follow them. Ends with the map's end, or if the caller may no longer see
 * the map. `sight` null: the caller sees all maps.
 */
export function watchSubject(
  { events }: { readonly events: Pick<EventReader, "query"> },
  { map, writer }: Watching,
  { name, write }: WatchForm,
  sight: { readonly key: string; readonly covered: Sight["covered"] } | null,
): Subject {
  const filter = { map: map.id, changing: true };
  const text = (one: WatchMessage): string => [...write(one)].join("");
  return {
    key: JSON.stringify(["watch", sight?.key ?? null, map.id, name]),
    isKept: true,
    query: (range) => events.query(filter, range),
    isSeen: async () => sight === null || (await sight.covered("read", [map.id])).has(map.id),
    telling: async () => (row) => messagesOf({ map, writer }, row, write),
    isLarge: (row) => isLarge(map, row),
    isLast: (row) => effectsIn(row)?.freed?.includes(map.id) === true,
    bookmark: (seq, mark) => text({ event: "bookmark", data: { seq }, id: writer.at(seq, mark) }),
    lagging: (at, mark, last) => text({ event: "lagging", data: { at, last }, id: writer.at(at, mark) }),
  };
}

/** Whether an event's messages may have too many bytes. Its `out` may name many elements in a few bytes each. */
function isLarge({ keySize, valueSize }: MapView, row: EventRow): boolean {
  if (2 * (keySize + valueSize) > MESSAGE_BYTES_MAX) return true;
  const keys = (row.key?.length ?? 0) / Math.max(keySize, 1);
  const values = (row.value?.length ?? 0) / Math.max(valueSize, 1);
  const bytes = 2 * eventBytes(row) + FIELDS_BYTES * Math.max(keys, values) + OUT_TIMES * (row.out?.length ?? 0);
  return bytes > EVENT_BYTES_MAX;
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
 * An event's messages with their ids. Except for an event's last change, an id has the number of the event's changes up
 * to it, so that a watch that breaks off can continue within the event.
 */
function* messagesOf({ map, writer }: Watching, row: MarkedRow, write: WatchForm["write"]): Iterable<Message> {
  const { seq, mark } = row;
  let count = 0;
  let last: Omit<WatchMessage, "id"> | null = null;
  for (const one of changesIn({ map, valueBytes: map.valueBytes }, row)) {
    if (last !== null) yield { texts: write({ ...last, id: writer.changes(seq, mark, count) }), told: count };
    last = one;
    count++;
  }
  if (last !== null) yield { texts: write({ ...last, id: writer.at(seq, mark) }), told: 0 };
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
