import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import type { LightMyRequestResponse } from "fastify";

interface Media {
  readonly schema: Schema;
  readonly example?: unknown;
  readonly examples?: Readonly<Record<string, unknown>>;
}

/** A body or an answer: what is sent by default, and what has to be asked for. */
export interface Payload {
  readonly content?: Readonly<Record<string, Media>>;
  readonly "x-other-content"?: Readonly<Record<string, Media>>;
}

interface Operation {
  readonly operationId: string;
  readonly parameters?: readonly { readonly name: string }[];
  readonly requestBody?: Payload;
  readonly responses: Readonly<Record<string, Payload & { readonly description: string }>>;
}

export interface Schema {
  readonly $ref?: string;
  readonly [keyword: string]: unknown;
}

export interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

const SCHEMAS = "#/components/schemas/";
const NDJSON = "application/x-ndjson";

const ID = "document";
/** What may be answered where the document has no operation. */
const NOWHERE = [401, 403, 404, 405];

/** Holds answers against an OpenAPI document. Throws where an answer is not what the document says. */
export class Conformance {
  readonly #document: Document;
  readonly #ajv = new Ajv2020({ strict: false, allErrors: true });
  readonly #validators = new Map<string, ValidateFunction>();
  /** Operations and statuses that were seen: what the tests have covered. */
  readonly seen = new Set<string>();

  constructor(document: Document) {
    this.#document = document;
    addFormats.default(this.#ajv);
    this.#ajv.addSchema(closed(document) as object, ID);
  }

  check(method: string, url: string, response: LightMyRequestResponse): void {
    const { pathname } = new URL(url, "http://localhost");
    const type = String(response.headers["content-type"] ?? "").split(";")[0] as string;
    const template = this.#template(pathname, method);
    if (template === undefined) {
      if (!NOWHERE.includes(response.statusCode))
        throw new Error(`${method} ${url}: answered ${response.statusCode}, but is not documented`);
      this.#validate(`${SCHEMAS}Problem`, response.json(), `${method} ${url}`);
      return;
    }
    const operation = this.#document.paths[template]?.[method.toLowerCase()] as Operation;
    const shown = `${method} ${url}: ${operation.operationId} ${response.statusCode} ${type}`;
    const payload: Payload = operation.responses[response.statusCode] ?? {};
    const where = payload.content?.[type] === undefined ? "x-other-content" : "content";
    const media = payload[where]?.[type];
    if (media === undefined) throw new Error(`${shown} is not documented: ${response.body.slice(0, 300)}`);
    this.seen.add(`${operation.operationId} ${response.statusCode}`);
    const { $ref } = media.schema;
    if ($ref === undefined) throw new Error(`${shown} has no name`);
    const item = (this.#document.components.schemas[$ref.slice(SCHEMAS.length)]?.["x-ndjson-item"] as Schema)?.$ref;
    if (type === NDJSON) for (const line of linesOf(response.body)) this.#validate(item ?? $ref, line, shown);
    else if (type.endsWith("json")) this.#validate($ref, response.json(), shown);
    else if (type === "text/event-stream")
      for (const message of messagesOf(response.body)) this.#validate($ref, message, shown);
  }

  #template(pathname: string, method: string): string | undefined {
    // A tile's index has slashes of its own.
    const given = pathname.replace(/^(\/tile\/[^/]+\/).*/, "$1index").split("/");
    const literals = (template: string) => template.split("/").filter((name) => !name.startsWith("{")).length;
    return Object.keys(this.#document.paths)
      .filter((template) => method.toLowerCase() in (this.#document.paths[template] ?? {}))
      .filter((template) => {
        const names = template.split("/");
        return names.length === given.length && names.every((name, at) => name.startsWith("{") || name === given[at]);
      })
      .sort((a, b) => literals(b) - literals(a))[0];
  }

  #validate(ref: string, data: unknown, shown: string): void {
    const known = this.#validators.get(ref) ?? this.#ajv.compile({ $ref: `${ID}${ref}` });
    this.#validators.set(ref, known);
    if (!known(data))
      throw new Error(`${shown}: ${this.#ajv.errorsText(known.errors)} in ${JSON.stringify(data).slice(0, 300)}`);
  }
}

function linesOf(body: string): unknown[] {
  return body
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line));
}

/** Whole messages of server-sent events, as the document describes them. */
function messagesOf(body: string): unknown[] {
  return body
    .split("\n\n")
    .slice(0, -1)
    .map((text) => {
      const { data, ...fields } = Object.fromEntries(
        text.split("\n").map((line) => [line.slice(0, line.indexOf(": ")), line.slice(line.indexOf(": ") + 2)]),
      );
      return { ...fields, data: JSON.parse(data as string) };
    });
}

/**
 * The same with every object closed: a field that the document does not tell of is a fault. What OpenAPI 3.0 calls nullable may
 * be null, whatever else is said of it, as generators read it.
 */
function closed(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(closed);
  if (typeof schema !== "object" || schema === null) return schema;
  const copy = Object.fromEntries(Object.entries(schema).map(([name, value]) => [name, closed(value)]));
  if (copy.type === "object" && copy.properties !== undefined && !("additionalProperties" in copy))
    copy.additionalProperties = false;
  if (copy.nullable !== true) return copy;
  const { nullable: _, type, enum: words, ...rest } = copy;
  return { ...rest, type: [type, "null"], ...(Array.isArray(words) && { enum: [...words, null] }) };
}
