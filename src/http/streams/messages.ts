/** Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html */

export const EVENT_STREAM = "text/event-stream";

/** A message; `data` is one line. A client that reconnects sends the last `id` that it received. */
export function message(event: string, data: string, id?: string): string {
  return [...messageText(event, [data], id)].join("");
}

/** The same with the data in pieces. */
export function* messageText(event: string, data: Iterable<string>, id?: string): Iterable<string> {
  yield `${id === undefined ? "" : `id: ${id}\n`}event: ${event}\ndata: `;
  yield* data;
  yield "\n\n";
}
