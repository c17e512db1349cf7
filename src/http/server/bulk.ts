/**
 * Large answers. An answer of more than 64 KiB is made in pieces: each when the reader has taken the one before, and
 * over all requests one piece in a turn of the event loop (`engine/turn_queue.ts`), so that other requests are not
 * delayed. Large bodies are read in pieces too (`codec/json_pieces.ts`, `replay/lines.ts`).
 */

import type { ServerResponse } from "node:http";
import { pipeline, Readable } from "node:stream";
import type { FastifyReply, FastifyRequest } from "fastify";
import { type Elements, elementItems, withHex } from "../../codec/elements.ts";
import type { Turns } from "../../engine/turn_queue.ts";
import type { Outcome } from "../../syscall/outcome.ts";
import { type Flight, SMALL_BYTES } from "./flight.ts";
import type { App } from "./instance.ts";
import { NDJSON, OCTETS } from "./negotiation.ts";
import { inPieces } from "./pieces.ts";

/**
 * The parts that large answers need. The bytes that an answer is made from are counted in flight (`Load`) until the
 * reader has the whole answer, or is gone.
 */
export interface Bulk {
  readonly flight: Flight;
  readonly turns: Pick<Turns, "take">;
}

/** Makes the JSON of elements, in pieces. */
export type ElementPrinter = (elements: Elements, separator: "," | "\n") => Iterable<string>;

type Pieces = Iterable<string> | AsyncIterable<string>;

const JSON_TYPE = "application/json; charset=utf-8";
/** Answers made from at most this many bytes are sent as one text. */
const WHOLE_BYTES_MAX = 64 * 1024;
const TEXT_PIECE = 128 * 1024;
/** About the bytes of an item's JSON, without its key and value. */
const ITEM_BYTES = 256;

const EMPTY = Buffer.alloc(0);

/**
 * If a route answers with one large text, counts it in flight and sends it in pieces. A large Buffer is sent whole: its
 * bytes were counted with the command's outcome (`Flight.answered`).
 */
export function addAnswers(app: App, parts: Bulk): void {
  app.addHook("onSend", (request, { raw }, payload: unknown, done) => {
    const isText = typeof payload === "string";
    if ((!isText && !Buffer.isBuffer(payload)) || payload.length <= SMALL_BYTES || isHead(request)) {
      done(null, payload);
      return;
    }
    if (isText) parts.flight.loadOf(raw).hold(payload.length);
    parts.flight.watchReader(raw);
    done(null, isText ? streamOf(parts, slices(payload)) : payload);
  });
}

/**
 * Answers a JSON object: the elements of an outcome, then the fields of `rest`. `more`: the characters that `print` may add to keys
 * and values.
 */
export function sendElements(
  parts: Bulk,
  reply: FastifyReply,
  outcome: Outcome,
  rest: Readonly<Record<string, unknown>>,
  print: ElementPrinter = elementItems,
  more = 0,
): FastifyReply {
  const elements = elementsOf(outcome);
  const { keys, values, count } = elements;
  const pieces = wrapped('{"elements":[', print(elements, ","), `],${JSON.stringify(rest).slice(1)}`);
  return sendJson(parts, reply, pieces, keys.length + values.length + count * ITEM_BYTES + more);
}

/** Answers all keys of an outcome end to end, then all values. */
export function sendElementOctets(reply: FastifyReply, outcome: Outcome): FastifyReply {
  const { keys, values } = elementsOf(outcome);
  return reply.type(OCTETS).send(endToEnd(keys, values));
}

/** Joins two buffers; without a copy if the second follows the first in memory, as in a frame of replies. */
function endToEnd(first: Buffer, second: Buffer): Buffer {
  if (first.buffer !== second.buffer || first.byteOffset + first.length !== second.byteOffset)
    return Buffer.concat([first, second]);
  return Buffer.from(first.buffer, first.byteOffset, first.length + second.length);
}

/** Answers a JSON object: a list, then the fields of `rest`. An item is made only when its turn comes. */
export function sendList<Item>(
  parts: Bulk,
  reply: FastifyReply,
  name: string,
  items: readonly Item[],
  toJson: (item: Item) => object,
  rest: Readonly<Record<string, unknown>> = {},
): FastifyReply {
  const tail = JSON.stringify(rest).slice(1);
  const pieces = wrapped(`{"${name}":[`, listed(items, toJson), tail === "}" ? "]}" : `],${tail}`);
  return sendJson(parts, reply, pieces, items.length * ITEM_BYTES);
}

/** Answers a value and the seq of its command. */
export function sendValue(parts: Bulk, reply: FastifyReply, value: Buffer, seq: number, more = ""): FastifyReply {
  return sendJson(parts, reply, valueText(value, seq, more), value.length + more.length);
}

/** `{"value":"2a000000","seq":17}`. `more`: further fields, with a comma before each. */
export function valueText(value: Buffer, seq: number, more = ""): Iterable<string> {
  return withHex(`{"value":""${more},"seq":${seq}}`, [["value", value]]);
}

/** Answers JSON, in pieces if it is made from more than WHOLE_BYTES_MAX bytes. */
export function sendJson(parts: Bulk, reply: FastifyReply, pieces: Iterable<string>, bytes: number): FastifyReply {
  if (bytes <= WHOLE_BYTES_MAX) return reply.type(JSON_TYPE).send([...pieces].join(""));
  return sendPieces(parts, reply, JSON_TYPE, pieces);
}

/** Answers texts at the reader's pace. A HEAD is answered without making any. */
export function sendPieces(parts: Bulk, reply: FastifyReply, type: string, pieces: Pieces): FastifyReply {
  if (isHead(reply.request)) return reply.type(type).send();
  parts.flight.watchReader(reply.raw);
  return reply.type(type).send(streamOf(parts, pieces));
}

/** The same without Fastify. If a piece fails, the connection is closed. */
export function pipePieces(parts: Bulk, response: ServerResponse, pieces: Pieces): void {
  parts.flight.watchReader(response);
  pipeline(streamOf(parts, pieces), response, () => {});
}

export function isHead({ method }: FastifyRequest): boolean {
  return method === "HEAD";
}

/** Answers a JSON object: the elements of a map's pages, then the fields that `rest` makes of the last page. */
export function sendPages(
  parts: Bulk,
  reply: FastifyReply,
  pages: AsyncIterable<Outcome>,
  rest: (last: Outcome | null) => object,
  print: ElementPrinter = elementItems,
): FastifyReply {
  return sendPieces(parts, reply, JSON_TYPE, pagesText(pages, rest, print));
}

/** Answers the elements of a map's pages as NDJSON. */
export function sendLines(
  parts: Bulk,
  reply: FastifyReply,
  pages: AsyncIterable<Outcome>,
  print: ElementPrinter = elementItems,
): FastifyReply {
  return sendPieces(parts, reply, NDJSON, linesText(pages, print));
}

async function* pagesText(
  pages: AsyncIterable<Outcome>,
  rest: (last: Outcome | null) => object,
  print: ElementPrinter,
): AsyncIterable<string> {
  let last: Outcome | null = null;
  for await (const page of pages) {
    yield last === null ? '{"elements":[' : ",";
    yield* inPieces(print(elementsOf(page), ","));
    last = page;
  }
  yield `],${JSON.stringify(rest(last)).slice(1)}`;
}

async function* linesText(pages: AsyncIterable<Outcome>, print: ElementPrinter): AsyncIterable<string> {
  for await (const page of pages) {
    const elements = elementsOf(page);
    yield* inPieces(print(elements, "\n"));
    if (elements.count > 0) yield "\n";
  }
}

/** A field of elements that show ids instead of descriptors. */
const SHOWS_IDS = ',"shows":"ids"';

/** An outcome's keys and values, end to end; the number of elements; and further JSON of each element. */
function elementsOf({ key, value, out }: Outcome): Elements {
  const count = value === null ? 0 : (out?.count ?? 0);
  return { keys: key ?? EMPTY, values: value ?? EMPTY, count, more: out?.ids === true ? SHOWS_IDS : "" };
}

/** A stream of the pieces, small ones joined; after each, others get a turn. */
function streamOf({ turns }: Bulk, pieces: Pieces): Readable {
  const paced = async function* (): AsyncIterable<string> {
    for await (const piece of Symbol.iterator in pieces ? inPieces(pieces) : pieces) {
      yield piece;
      await turns.take();
    }
  };
  return Readable.from(paced(), { highWaterMark: 1 });
}

function* listed<Item>(items: readonly Item[], toJson: (item: Item) => object): Iterable<string> {
  for (let at = 0; at < items.length; at++) yield `${at === 0 ? "" : ","}${JSON.stringify(toJson(items[at] as Item))}`;
}

/** Cuts a text without splitting a character (surrogate pair). */
function* slices(text: string): Iterable<string> {
  for (let at = 0; at < text.length; ) {
    const end = at + TEXT_PIECE;
    const isSplit = (text.charCodeAt(end - 1) & 0xfc00) === 0xd800;
    yield text.slice(at, isSplit ? end + 1 : end);
    at = isSplit ? end + 1 : end;
  }
}

function* wrapped(head: string, items: Iterable<string>, tail: string): Iterable<string> {
  yield head;
  yield* items;
  yield tail;
}
