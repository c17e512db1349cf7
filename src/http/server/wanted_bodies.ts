/**
 * Refusals of bodies name the body that the route takes: its type, with an example out of the route's schema. For
 * example, a PUT of text/plain is answered with `application/json as in {"value":"2a000000"} is needed, found
 * "text/plain"`.
 */

import type { FastifyRequest } from "fastify";
import { Problem } from "./problems.ts";

const BYTE_ORDER_MARK = 0xfeff;
const JSON_TYPE = "application/json";

/** The body of a PUT of an element, for whoever has to tell of it. */
export const VALUE_EXAMPLE = { value: "2a000000" } as const;

/** JSON without the byte order mark that editors put in front of it. */
export function withoutMark(text: string): string {
  return text.charCodeAt(0) === BYTE_ORDER_MARK ? text.slice(1) : text;
}

/** A body that is no JSON; `sample`: what one is like that is taken. */
export function notJson(why: string, sample: string): Error {
  return Object.assign(new Error(`${why}: it is to be as in ${sample}`), { statusCode: 400 });
}

/** What JSON.parse says about a text that it does not take. */
export function whyNot(text: string): string {
  try {
    JSON.parse(text);
  } catch (error) {
    return `the body is not JSON: ${(error as Error).message}`;
  }
  return "the body has a field that no object may have";
}

/** What a route takes, by type, with an example of it: as `Names` has put them down. */
function taken({ routeOptions: { schema } }: FastifyRequest): [type: string, example: unknown][] {
  return Object.entries((schema as { "x-body-examples"?: Record<string, unknown> })?.["x-body-examples"] ?? {});
}

/** What is to be sent to a route. */
export function needed(request: FastifyRequest): string {
  const types = taken(request);
  if (types.length === 0) return "this route takes no body";
  const all = types.map(([type, example]) => (isJson(type) ? `${type} as in ${textOf(example)}` : type));
  return `${all.join(" or ")} is needed`;
}

/** A body of a type that a route does not take. */
export function refusedType(request: FastifyRequest): Problem {
  const type = request.headers["content-type"];
  const found = type === undefined ? "a body without a Content-Type" : JSON.stringify(type);
  return new Problem("unsupported-media-type", `${needed(request)}, found ${found}`);
}

/** Whether a route takes a type; one that takes no body passes JSON over. */
export function takes(request: FastifyRequest, type: string): boolean {
  const types = taken(request);
  return types.length === 0 ? isJson(type) : types.some(([name]) => name === type);
}

/** An example of the JSON that a route takes. */
export function sampleOf(request: FastifyRequest): string {
  return textOf(taken(request).find(([type]) => isJson(type))?.[1] ?? {});
}

function textOf(example: unknown): string {
  return JSON.stringify(example);
}

function isJson(type: string): boolean {
  return type === JSON_TYPE;
}

/** Whether a route has a body that may be left out. */
export function isOptional(schema: object): boolean {
  return (schema as { "x-body-optional"?: true })["x-body-optional"] === true;
}
