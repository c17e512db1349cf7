/**
 * Receives request bodies. A body over 64 KiB is counted in the bytes in flight (`flight.ts`); a large JSON body is
 * parsed in pieces. Refuses bodies that are too large, or of a type that the route does not accept.
 */

import type { IncomingMessage } from "node:http";
import type { Readable } from "node:stream";
import type { FastifyRequest, RouteOptions as FastifyRouteOptions } from "fastify";
import { elementsInLines } from "../../codec/element_lines.ts";
import { InvalidInput } from "../../codec/invalid.ts";
import { NotJson, parseInPieces } from "../../codec/json_pieces.ts";
import type { Settings } from "../../config.ts";
import { problems } from "../schemas/answers.ts";
import type { Bulk } from "./bulk.ts";
import { SMALL_BYTES } from "./flight.ts";
import { inflated, packing } from "./inflation.ts";
import type { App } from "./instance.ts";
import { NDJSON, OCTETS } from "./negotiation.ts";
import { Problem } from "./problems.ts";
import { bodyByHand } from "./validation.ts";
import { isOptional, needed, notJson, refusedType, sampleOf, takes, whyNot, withoutMark } from "./wanted_bodies.ts";

/** The limit for routes whose schema validates the whole body. Such bodies have no elements and no values. */
const PLAIN_BYTES_MAX = 512 * 1024;

/** The limit for bodies with a typed or formatted value, which are parsed in one go, because any JSON may be in them. */
const FORMED_BYTES_MAX = 1024 * 1024;

declare module "fastify" {
  interface FastifyContextConfig {
    /** `codec/body.ts` reads the body, which may be large. */
    byHand?: boolean;
    /** The route reads its body as a stream of any length. */
    streamed?: boolean;
  }
}

export interface BodyParts extends Bulk {
  readonly settings: Pick<Settings, "bodyBytesMax">;
}

/** Adds hooks and parsers for the bodies of all routes. */
export function addBodies(app: App, parts: BodyParts): void {
  const { flight, settings, turns } = parts;
  const parseWhole = app.getDefaultJsonParser("error", "error");
  app.addHook("onRoute", (route) => {
    const byHand = route.validatorCompiler === bodyByHand;
    route.config = { ...route.config, byHand };
    route.bodyLimit ??= byHand ? settings.bodyBytesMax : Math.min(settings.bodyBytesMax, PLAIN_BYTES_MAX);
    tellRefusals(route);
  });
  app.addHook("onRequest", async ({ raw: { headers } }) => {
    // Some clients name a content type in requests without a body. Remove it, unless an empty body has a meaning: no
    // octets may be a value, no lines an empty list.
    const type = headers["content-type"];
    if (isEmpty(headers) && type !== OCTETS && type !== NDJSON) delete headers["content-type"];
  });
  app.addHook("preParsing", async ({ raw, routeOptions }, reply, payload) => {
    const encoding = isEmpty(raw.headers) ? null : packing(raw);
    if (routeOptions.config.streamed !== true) {
      const declared = declaredBytes(raw);
      checkLength(declared, routeOptions.bodyLimit);
      if (encoding !== null || raw.headers["transfer-encoding"] !== undefined) flight.loadOf(reply.raw);
      else if (declared > SMALL_BYTES) flight.loadOf(reply.raw).take(declared);
    }
    return encoding === null ? payload : inflated(raw, encoding);
  });
  app.addContentTypeParser("application/json", async (request: FastifyRequest, payload: IncomingMessage) => {
    const bytes = await receive(
      parts,
      request,
      payload,
      takes(request, "application/json") ? null : refusedType(request),
    );
    const { byHand } = request.routeOptions.config;
    if (byHand === true && bytes.length > SMALL_BYTES) {
      const body = await parseInPieces(bytes, () => turns.take()).catch((error) => {
        throw error instanceof NotJson ? notJson(error.message, sampleOf(request)) : error;
      });
      if (!hasForm(body)) return body;
      checkLength(bytes.length, FORMED_BYTES_MAX);
    }
    if (bytes.length === 0) return undefined;
    const text = withoutMark(bytes.toString("utf8"));
    return new Promise((resolve, reject) => {
      parseWhole(request, text, (error, body) =>
        error === null ? resolve(body) : reject(notJson(whyNot(text), sampleOf(request))),
      );
    });
  });
  refuseOthers(app, parts);
  app.addHook("preValidation", async (request) => {
    const { schema } = request.routeOptions;
    if (request.body !== undefined || schema?.body === undefined || isOptional(schema)) return;
    throw new InvalidInput("body", needed(request));
  });
}

/** On the routes of a plugin: refuses bodies of all types without a parser of their own. An empty body is accepted. */
export function refuseOthers(app: App, parts: Bulk): void {
  app.addContentTypeParser("*", async (request: FastifyRequest, payload: IncomingMessage) => {
    const refusal = refusedType(request);
    if (declaredBytes(request.raw) > 0) throw refusal;
    const bytes = await receive(parts, request, payload, refusal);
    return bytes.length === 0 ? undefined : bytes;
  });
}

/** Adds 413 and 415 to the document of every route whose method allows a body, also if the route accepts none. */
function tellRefusals({ method, schema }: FastifyRouteOptions): void {
  if (schema === undefined || [method].flat().some((one) => one === "GET" || one === "HEAD")) return;
  const { 413: tooLarge, 415: ofOtherType } = problems({ body: true });
  schema.response = { 413: tooLarge, 415: ofOtherType, ...(schema.response as object) };
}

function hasForm(body: unknown): boolean {
  return typeof body === "object" && body !== null && ("typed" in body || "formatted" in body);
}

function isEmpty(headers: IncomingMessage["headers"]): boolean {
  return headers["transfer-encoding"] === undefined && (headers["content-length"] ?? "0") === "0";
}

/** On the routes of a plugin: accepts application/octet-stream. Each body is a Buffer with memory of its own. */
export function takeOctets(app: App, parts: Bulk): void {
  app.addContentTypeParser(OCTETS, async (request: FastifyRequest, payload: IncomingMessage) => {
    const isTaken = takes(request, OCTETS);
    const bytes = await receive(parts, request, payload, isTaken ? null : refusedType(request));
    return bytes.length === 0 && !isTaken ? undefined : bytes;
  });
}

/** On the routes of a plugin: accepts elements as NDJSON. */
export function takeElementLines(app: App, parts: Bulk): void {
  app.addContentTypeParser(NDJSON, async (request: FastifyRequest, payload: IncomingMessage) => {
    const bytes = await receive(parts, request, payload, takes(request, NDJSON) ? null : refusedType(request));
    if (bytes.length === 0 && !takes(request, NDJSON)) return undefined;
    return elementsInLines(bytes, () => parts.turns.take());
  });
}

/** The Content-Length; 0 if there is none. */
function declaredBytes({ headers }: IncomingMessage): number {
  return Number(headers["content-length"] ?? 0);
}

function checkLength(bytes: number, bytesMax: number): void {
  if (bytes > bytesMax) throw new Problem("body-too-large", `the body is larger than ${bytesMax} bytes`);
}

/**
 * Receives a body. If a body over 64 KiB has a Content-Length and is not inflated, it was counted in flight before;
 * otherwise its bytes are counted as they arrive. `unwanted`: thrown if the body is not empty.
 */
function receive(
  { flight }: Bulk,
  { raw, routeOptions: { bodyLimit } }: FastifyRequest,
  payload: Readable,
  unwanted: Problem | null = null,
): Promise<Buffer> {
  const declared = payload === raw ? declaredBytes(raw) : 0;
  const body = new Body(declared);
  return new Promise((resolve, reject) => {
    let counted = declared > SMALL_BYTES ? declared : 0;
    if (declared > SMALL_BYTES) flight.watchSender(raw);
    const end = (error?: Error | Problem): void => {
      payload.off("data", add).off("end", end).off("error", end);
      if (Math.max(declared, body.length) > SMALL_BYTES) flight.unwatchSender(raw);
      if (error === undefined) {
        resolve(body.bytes);
        return;
      }
      if (payload !== raw) payload.destroy();
      reject(error instanceof Error ? Object.assign(error, { statusCode: 400 }) : error);
    };
    const add = (piece: Buffer): void => {
      const length = body.length + piece.length;
      try {
        if (unwanted !== null && length > 0) throw unwanted;
        checkLength(length, bodyLimit);
        if (length > Math.max(counted, SMALL_BYTES)) {
          if (counted === 0) flight.watchSender(raw);
          flight.loadOfRequest(raw).take(length - counted);
          counted = length;
        }
        body.add(piece);
      } catch (error) {
        end(error as Problem);
      }
    };
    payload.on("data", add).on("end", end).on("error", end);
  });
}

/** A body's bytes, collected in one buffer that grows. */
class Body {
  #room: Buffer;
  #length = 0;

  constructor(declared: number) {
    this.#room = Buffer.allocUnsafeSlow(declared);
  }

  get length(): number {
    return this.#length;
  }

  get bytes(): Buffer {
    return this.#room.subarray(0, this.#length);
  }

  add(piece: Buffer): void {
    const length = this.#length + piece.length;
    if (length > this.#room.length) {
      const more = Buffer.allocUnsafeSlow(Math.max(length, 2 * this.#room.length));
      this.#room.copy(more, 0, 0, this.#length);
      this.#room = more;
    }
    piece.copy(this.#room, this.#length);
    this.#length = length;
  }
}
