import { Readable } from "node:stream";
import type { FastifyReply } from "fastify";
import { elementItems, elementLines } from "../codec/elements.ts";
import type { Outcome } from "../syscall/outcome.ts";
import { NDJSON } from "./negotiate.ts";

/** Answers up to here are sent as one text; larger ones in pieces, as fast as the caller takes them. */
const WHOLE_BYTES_MAX = 1024 * 1024;

const EMPTY = Buffer.alloc(0);

/** A JSON object that begins with the elements of an outcome; `rest` are its other fields. */
export function sendElements(
  reply: FastifyReply,
  outcome: Outcome,
  rest: Readonly<Record<string, unknown>>,
): FastifyReply {
  const { keys, values, count } = elementsOf(outcome);
  const pieces = wrapped('{"elements":[', elementItems(keys, values, count), `],${JSON.stringify(rest).slice(1)}`);
  return sendJson(reply, pieces, keys.length + values.length);
}

/** JSON in pieces that hold so many bytes in hex. */
export function sendJson(reply: FastifyReply, pieces: Iterable<string>, bytes: number): FastifyReply {
  reply.type("application/json; charset=utf-8");
  return reply.send(bytes > WHOLE_BYTES_MAX ? Readable.from(pieces) : [...pieces].join(""));
}

/** The elements of an outcome, one a line. */
export function sendLines(reply: FastifyReply, outcome: Outcome): FastifyReply {
  const { keys, values, count } = elementsOf(outcome);
  return reply.type(NDJSON).send(Readable.from(elementLines(keys, values, count)));
}

/** The last of the keys that an outcome has given out. */
export function lastKey({ key, out }: Outcome): string {
  const keys = key ?? EMPTY;
  return keys.toString("hex", keys.length - keys.length / (out?.count ?? 1));
}

function elementsOf({ key, value, out }: Outcome): { keys: Buffer; values: Buffer; count: number } {
  return { keys: key ?? EMPTY, values: value ?? EMPTY, count: value === null ? 0 : (out?.count ?? 0) };
}

function* wrapped(head: string, items: Iterable<string>, tail: string): Iterable<string> {
  yield head;
  yield* items;
  yield tail;
}
