/** The messages of streams, as the document tells of them. */
import { type TSchema, Type } from "typebox";
import { CLOSED, type NamedObject, oneOfNamed } from "./fields.ts";

/** What every stream that follows the log may tell beside what it is about. */
export const FOLLOWED = {
  bookmark: Type.Object(
    { seq: Type.Integer({ minimum: 0 }) },
    { $id: "Bookmark", ...CLOSED, description: "Everything up to this seq has been looked at." },
  ),
  lagging: Type.Object(
    { at: Type.Integer({ minimum: 0 }), last: Type.Integer({ minimum: 0 }) },
    { $id: "Lagging", ...CLOSED, description: "The stream has come to `at`, the log to `last`." },
  ),
} as const;

/**
 * The messages of a stream of server-sent events, by their `event`: what each has for data. `name`: of the union; its members are
 * called `prefix`, the event and Message.
 */
export function messagesOf(name: string, prefix: string, data: Readonly<Record<string, TSchema>>): TSchema {
  const members = Object.entries(data).map(([event, schema]): [string, NamedObject] => [
    event,
    Type.Object(
      {
        event: Type.Enum([event], { type: "string" }),
        id: Type.Optional(Type.String({ description: "For Last-Event-ID." })),
        data: schema,
      },
      { $id: `${prefix}${capitalized(event)}Message`, ...CLOSED },
    ) as unknown as NamedObject,
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
    Type.Object(
      { event: Type.Enum([event], { type: "string" }), ...properties, ...besides },
      { $id: `${prefix}${capitalized(event)}Line`, ...CLOSED },
    ) as unknown as NamedObject,
  ]);
  return oneOfNamed("event", Object.fromEntries(members), { $id: name, description: "Each line of the stream." });
}

function capitalized(word: string): string {
  return `${word.slice(0, 1).toUpperCase()}${word.slice(1)}`;
}
