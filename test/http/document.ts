import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import type { LightMyRequestResponse } from "fastify";

interface Media {
  readonly schema: object & { readonly "x-ndjson-item"?: object };
}

interface Operation {
  readonly operationId: string;
  readonly parameters?: readonly { readonly name: string }[];
  readonly responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, Media>> }>>;
}

export interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
}

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
      this.#validate(`${ID}#/components/schemas/Problem`, response.json(), `${method} ${url}`);
      return;
    }
    const operation = this.#document.paths[template]?.[method.toLowerCase()] as Operation;
    const shown = `${method} ${url}: ${operation.operationId} ${response.statusCode} ${type}`;
    const media = operation.responses[response.statusCode]?.content?.[type];
    if (media === undefined) throw new Error(`${shown} is not documented: ${response.body.slice(0, 300)}`);
    this.seen.add(`${operation.operationId} ${response.statusCode}`);
    const pointer = [
      "paths",
      template,
      method.toLowerCase(),
      "responses",
      String(response.statusCode),
      "content",
      type,
      "schema",
    ].map((name) => encodeURIComponent(name.replaceAll("~", "~0").replaceAll("/", "~1")));
    const at = `${ID}#/${pointer.join("/")}`;
    if (type.endsWith("json") && media.schema["x-ndjson-item"] === undefined)
      this.#validate(at, response.json(), shown);
    if (media.schema["x-ndjson-item"] !== undefined)
      for (const line of response.body.split("\n").slice(0, -1))
        this.#validate(`${at}/x-ndjson-item`, JSON.parse(line), shown);
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

  #validate(at: string, data: unknown, shown: string): void {
    const known = this.#validators.get(at) ?? this.#ajv.compile({ $ref: at });
    this.#validators.set(at, known);
    if (!known(data))
      throw new Error(`${shown}: ${this.#ajv.errorsText(known.errors)} in ${JSON.stringify(data).slice(0, 300)}`);
  }
}

/** The same with every object closed: a field that the document does not tell of is a fault. */
function closed(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(closed);
  if (typeof schema !== "object" || schema === null) return schema;
  const copy = Object.fromEntries(Object.entries(schema).map(([name, value]) => [name, closed(value)]));
  if (copy.type === "object" && copy.properties !== undefined && !("additionalProperties" in copy))
    copy.additionalProperties = false;
  return copy;
}
