/** Schemas with a name, their $id: the OpenAPI document has each of them once, and their answers share a serializer. */

import type { SerializerFactory } from "@fastify/fast-json-stringify-compiler";
import type { RouteOptions } from "fastify";
import { serializers } from "./late_modules.ts";

/** The fields of a schema that this file reads. */
interface Schema {
  readonly $id?: string;
  readonly type?: string | readonly string[];
  readonly examples?: readonly unknown[];
}

interface Media {
  readonly schema: Schema;
}

/** A body's schema: one for JSON, or one for each content type. */
type Body = Schema & { readonly content?: Readonly<Record<string, Media>> };

const JSON_TYPE = "application/json";
/** Keywords whose values are data, not schemas. */
const DATA: ReadonlySet<string> = new Set(["const", "default", "enum", "example", "examples"]);
/** From this status on, answers are problems, which are sent as text. */
const PROBLEM_STATUS = 400;

/**
 * Collects the named schemas of all routes, for validators, serializers and the document's components. They refer to
 * each other by name. They are made from the routes' when they are first needed: a start needs none.
 */
export class Names {
  readonly #byName = new Map<string, object>();
  readonly #texts = new Map<string, string>();
  /** Schemas that were collected and not looked at yet. */
  #collected: unknown[] = [];
  readonly #serializers = new Map<string, (answer: unknown) => string>();

  get schemas(): Readonly<Record<string, object>> {
    this.#look();
    return Object.fromEntries(this.#byName);
  }

  /** Collects the named schemas in some schemas. */
  collect(written: readonly object[]): void {
    this.#collected.push(written);
  }

  /**
   * As collect(), for a route's bodies and answers. The examples of its body move to `x-body-examples`, beside the
   * schemas: they tell which types of bodies the route takes (`wanted_bodies.ts`).
   */
  collectIn(route: RouteOptions): void {
    const { schema } = route;
    if (schema === undefined) return;
    const body = schema.body as Body | undefined;
    if (body !== undefined) this.#collected.push(withoutExamples(body));
    this.#collected.push(schema.response);
    const examples = Object.entries(mediaOf(body)).map(([type, { schema }]) => [type, schema.examples?.[0]]);
    if (examples.length > 0) route.schema = { ...schema, "x-body-examples": Object.fromEntries(examples) } as object;
  }

  #look(): void {
    for (const written of this.#collected) this.#referring(written);
    this.#collected = [];
  }

  /** A body's schema, with references to the named schemas in it. */
  ofBody(body: unknown): object {
    return this.#referring(withoutExamples(body as Body)) as object;
  }

  /** Replaces the named schemas within a schema by references. Throws if two different schemas have one name. */
  #referring(written: unknown): unknown {
    if (Array.isArray(written)) return written.map((one) => this.#referring(one));
    if (typeof written !== "object" || written === null) return written;
    const copy = Object.fromEntries(
      Object.entries(written).map(([name, value]) => [name, DATA.has(name) ? value : this.#referring(value)]),
    );
    if (typeof copy.$id !== "string") return copy;
    const text = JSON.stringify(copy);
    const known = this.#texts.get(copy.$id);
    if (known !== undefined && known !== text) throw new Error(`naming schemas: two are called ${copy.$id}`);
    if (known === undefined) {
      this.#texts.set(copy.$id, text);
      this.#byName.set(copy.$id, copy);
    }
    return { $ref: copy.$id };
  }

  /** Replaces the named schemas of a route by references, for the document. */
  nameIn(route: RouteOptions): void {
    const { schema } = route;
    if (schema === undefined) return;
    this.#look();
    route.schema = {
      ...schema,
      ...(schema.body !== undefined && { body: this.ofBody(schema.body) }),
      ...(schema.response !== undefined && { response: this.#referring(schema.response) }),
    } as object;
  }

  /** Compiles the serializers of answers: one for each name, when it is first needed. */
  readonly serializers: SerializerFactory = (_schemas, options) => {
    let compile: ReturnType<SerializerFactory> | null = null;
    return (route) => {
      const { $id, $ref: name = $id } = route.schema as { $id?: string; $ref?: string };
      if (Number(route.httpStatus) >= PROBLEM_STATUS || name === undefined) return JSON.stringify;
      return (answer) => {
        let write = this.#serializers.get(name);
        if (write === undefined) {
          compile ??= serializers().SerializerSelector()(this.schemas, options);
          write = compile({ ...route, schema: { $ref: name } });
          this.#serializers.set(name, write);
        }
        return write(answer);
      };
    };
  };
}

function mediaOf(body: Body | undefined): Readonly<Record<string, Media>> {
  if (body === undefined) return {};
  return body.content ?? { [JSON_TYPE]: { schema: body } };
}

function withoutExamples({ examples: _, ...body }: Body): object {
  if (body.content === undefined) return body;
  const media = Object.entries(body.content).map(([type, { schema }]) => {
    const { examples: _, ...bare } = schema;
    return [type, { schema: bare }];
  });
  return { content: Object.fromEntries(media) };
}
