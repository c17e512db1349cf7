/**
 * Refusals of bodies. They name the body that the route accepts: its type, with an example from the route's schema. For
 * example, a PUT of text/plain is refused with `required: application/json such as {"value":"2a000000"}; found
 * "text/plain"`.
 */

import type { FastifyRequest } from "fastify";
import { Problem } from "./problems.ts";

const BYTE_ORDER_MARK = 0xfeff;
const JSON_TYPE = "application/json";

/** The example of an element's PUT, for the fast path, which has no schema. */
export const VALUE_EXAMPLE = { value: "2a000000" } as const;

/** Removes the byte order mark, which some editors write. */
export function withoutMark(text: string): string {
  return text.charCodeAt(0) === BYTE_ORDER_MARK ? text.slice(1) : text;
}

/** The error of a body that is not JSON. `sample`: an example of a body that the route accepts. */
export function notJson(why: string, sample: string): Error {
  return Object.assign(new Error(`${why}; required: a body such as ${sample}`), { statusCode: 400 });
}

/**
 * JSON.parse's error for a text that was refused. If it has none, the text has a field that could change a prototype.
 */
export function whyNot(text: string): string {
  try {
    JSON.parse(text);
  } catch (error) {
    return `the body is not JSON: ${(error as Error).message}`;
  }
  return "the body has a field __proto__ or constructor.prototype, which is not allowed";
}

/** The content types that a route accepts, each with an example (`Names`). */
function taken({ routeOptions: { schema } }: FastifyRequest): [type: string, example: unknown][] {
  return Object.entries((schema as { "x-body-examples"?: Record<string, unknown> })?.["x-body-examples"] ?? {});
}

/** A text that names the bodies that a route accepts. */
export function needed(request: FastifyRequest): string {
  const types = taken(request);
  if (types.length === 0) return "no body is allowed on this route";
  const all = types.map(([type, example]) => (isJson(type) ? `${type} such as ${textOf(example)}` : type));
  return `required: ${all.join(" or ")}`;
}

/** The problem of a body whose content type the route does not accept. */
export function refusedType(request: FastifyRequest): Problem {
  const type = request.headers["content-type"];
  const found = type === undefined ? "a body without a Content-Type" : JSON.stringify(type);
  return new Problem("unsupported-media-type", `${needed(request)}; found ${found}`);
}

/** Whether a route accepts a content type. A route without a body ignores JSON. */
export function takes(request: FastifyRequest, type: string): boolean {
  const types = taken(request);
  return types.length === 0 ? isJson(type) : types.some(([name]) => name === type);
}

/** An example of the JSON that a route accepts. */
export function sampleOf(request: FastifyRequest): string {
  return textOf(taken(request).find(([type]) => isJson(type))?.[1] ?? {});
}

function textOf(example: unknown): string {
  return JSON.stringify(example);
}

function isJson(type: string): boolean {
  return type === JSON_TYPE;
}

/** Whether a route's body is optional. */
export function isOptional(schema: object): boolean {
  return (schema as { "x-body-optional"?: true })["x-body-optional"] === true;
}
