/** The JSON of an event, made in pieces if its key and value are long. */

import { withHex } from "../../codec/elements.ts";
import type { EventRow } from "../../log/event.ts";
import { eventJson } from "../../log/event_json.ts";

/** Up to this many bytes of key and value, the JSON is made as one text. */
const WHOLE_BYTES_MAX = 64 * 1024;
const NOTHING = Buffer.alloc(0);

/** The texts of an event's JSON. `sessionPeer`: the peer of its session, for `eventJson`. */
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

/** The bytes of an event's key and value. */
export function eventBytes({ key, value }: EventRow): number {
  return (key?.length ?? 0) + (value?.length ?? 0);
}
