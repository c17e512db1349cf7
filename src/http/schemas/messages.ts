/** The messages of streams, as the document tells of them. */
import { type TSchema, Type } from "typebox";
import { type NamedObject, named, oneOfNamed } from "./fields.ts";

/** What every stream that follows the log may tell beside what it is about. */
export const FOLLOWED = {
  bookmark: named(
    "Bookmark",
    { seq: Type.Integer({ minimum: 0 }) },
    { description: "Everything up to this seq has been looked at." },
  ),
  lagging: named(
    "Lagging",
    { at: Type.Integer({ minimum: 0 }), last: Type.Integer({ minimum: 0 }) },
    { description: "The stream has come to `at`, the log to `last`." },
  ),
} as const;

/**
 * The messages of a stream of server-sent events, by their `event`: what each has for data. `name`: of the union; its members are
 * called `prefix`, the event and Message.
 */
export function messagesOf(name: string, prefix: string, data: Readonly<Record<string, TSchema>>): TSchema {
  const members = Object.entries(data).map(([event, schema]): [string, NamedObject] => [
    event,
    named(`${prefix}${capitalized(event)}Message`, {
      event: Type.Enum([event], { type: "string" }),
      id: Type.Optional(Type.String({ description: "For Last-Event-ID." })),
      data: schema,
    }),
  ]);
  return oneOfNamed("event", Object.fromEntries(members), {
    $id: name,
    description: "Each message of the stream: its fields as text/event-stream has them, its data as JSON.",
  });
}

/** The same as lines of JSON, which say in `event` what they are; `besides`: fields of every line. */
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
