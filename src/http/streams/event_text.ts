import { withHex } from "../../codec/elements.ts";
import type { EventRow } from "../../log/event.ts";
import { eventJson } from "../../log/event_json.ts";

/** Of events with fewer bytes of key and value the JSON is made at once. */
const WHOLE_BYTES_MAX = 64 * 1024;
const NOTHING = Buffer.alloc(0);

/** An event's JSON, in pieces where its key and value are long. `sessionPeer`: as eventJson has it. */
export function* eventText(row: EventRow, position: string, sessionPeer: string | null): Iterable<string> {
  if (eventBytes(row) <= WHOLE_BYTES_MAX) {
    yield JSON.stringify({ ...eventJson(row, sessionPeer), position });
    return;
  }
  const { key, value } = row;
  const short = { ...row, key: key === null ? null : NOTHING, value: value === null ? null : NOTHING };
  const json = { ...eventJson(short, sessionPeer), position };
  const fields = [
    ...(key === null ? [] : ([["key", key]] as const)),
    ...(value === null ? [] : ([["value", value]] as const)),
  ];
  yield* withHex(JSON.stringify(json), fields);
}

/** Of its key and its value. */
export function eventBytes({ key, value }: EventRow): number {
  return (key?.length ?? 0) + (value?.length ?? 0);
}
