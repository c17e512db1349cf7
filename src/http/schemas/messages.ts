/** Schemas of the messages of streams. */

import type { TSchema } from "typebox";
import { type NamedObject, named, oneOfNamed } from "./fields.ts";
import { Type } from "./type.ts";

/** Messages that every stream that follows the log has, besides its own. */
export const FOLLOWED = {
  bookmark: named(
    "Bookmark",
    { seq: Type.Integer({ minimum: 0 }) },
    { description: "The stream has looked at all events up to this seq." },
  ),
  lagging: named(
    "Lagging",
    { at: Type.Integer({ minimum: 0 }), last: Type.Integer({ minimum: 0 }) },
    { description: "The stream has looked at the events up to `at`; the log ends at `last`." },
  ),
} as const;

/**
 * The messages of a stream of server-sent events. `data`: the schema of each message's data, by its `event`. `name`:
 * the name of the union. A member's name is `prefix`, the event and "Message": WatchBeginMessage.
 */
export function messagesOf(name: string, prefix: string, data: Readonly<Record<string, TSchema>>): TSchema {
  const members = Object.entries(data).map(([event, schema]): [string, NamedObject] => [
    event,
    named(`${prefix}${capitalized(event)}Message`, {
      event: Type.Enum([event], { type: "string" }),
      id: Type.Optional(Type.String({ description: "A position, for Last-Event-ID." })),
      data: schema,
    }),
  ]);
  return oneOfNamed("event", Object.fromEntries(members), {
    $id: name,
    description: "Each message of the stream: its fields as text/event-stream has them, its data as JSON.",
  });
}

/** The same messages as lines of JSON, each with its name in `event`. `besides`: further fields of every line. */
export function linesOf(
  name: string,
  prefix: string,
  data: Readonly<Record<string, NamedObject>>,
  besides: Readonly<Record<string, TSchema>>,
): TSchema {
  const members = Object.entries(data).map(([event, { properties }]): [string, NamedObject] => [
    event,
    named(`${prefix}${capitalized(event)}Line`, {
      event: Type.Enum([event], { type: "string" }),
      ...properties,
      ...besides,
    }),
  ]);
  return oneOfNamed("event", Object.fromEntries(members), { $id: name, description: "Each line of the stream." });
}

function capitalized(word: string): string {
  return `${word.slice(0, 1).toUpperCase()}${word.slice(1)}`;
}
