/** Server-sent events, as https://html.spec.whatwg.org/multipage/server-sent-events.html has them. */
export const EVENT_STREAM = "text/event-stream";

/** A message; `data` is one line. Its id is what a reader that comes back says that it has. */
export function message(event: string, data: string, id?: string): string {
  return [...messageText(event, [data], id)].join("");
}

/** The same, of data in pieces. */
export function* messageText(event: string, data: Iterable<string>, id?: string): Iterable<string> {
  yield `${id === undefined ? "" : `id: ${id}\n`}event: ${event}\ndata: `;
  yield* data;
  yield "\n\n";
}
