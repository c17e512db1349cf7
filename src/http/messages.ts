import { Type } from "typebox";
import { CLOSED } from "./schemas.ts";

/** Server-sent events, as https://html.spec.whatwg.org/multipage/server-sent-events.html has them. */
export const EVENT_STREAM = "text/event-stream";

/** A message; `data` is one line. Its id is what a reader that comes back says that it has. */
export function message(event: string, data: string, id?: number): string {
  return `${id === undefined ? "" : `id: ${id}\n`}event: ${event}\ndata: ${data}\n\n`;
}

/** What every stream that follows the log may tell beside what it is about. */
export const FOLLOWED = {
  bookmark: Type.Object(
    { seq: Type.Integer({ minimum: 0 }) },
    { ...CLOSED, description: "Everything up to this seq has been looked at." },
  ),
  lagging: Type.Object(
    { at: Type.Integer({ minimum: 0 }), last: Type.Integer({ minimum: 0 }) },
    { ...CLOSED, description: "The stream has come to `at`, the log to `last`." },
  ),
} as const;

/** Small texts put together, so that not each of them is a piece of its own. */
const PIECE_CHARACTERS = 64 * 1024;

export function* inPieces(texts: Iterable<string>): Iterable<string> {
  let piece = "";
  for (const text of texts) {
    piece += text;
    if (piece.length < PIECE_CHARACTERS) continue;
    yield piece;
    piece = "";
  }
  if (piece !== "") yield piece;
}
