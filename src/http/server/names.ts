/** Schemas with a name, their $id: the OpenAPI document has each of them once, and their answers share a serializer. */

import { type SerializerFactory, SerializerSelector } from "@fastify/fast-json-stringify-compiler";
import type { RouteOptions } from "fastify";

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
 * Collects the named schemas of all routes, for the document's components. Routes and other schemas refer to them by
 * name.
 */
export class Names {
  readonly #byName = new Map<string, object>();
  readonly #texts = new Map<string, string>();
  readonly #serializers = new Map<string, (answer: unknown) => string>();

  get schemas(): Readonly<Record<string, object>> {
    return Object.fromEntries(this.#byName);
  }

  /** Replaces the named schemas within a schema by references. Throws if two different schemas have one name. */
  referring<Written>(written: Written): Written {
    return this.#referring(written) as Written;
  }

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

  /** As referring(), for a route's schemas. The examples of its body move to `x-body-examples`, beside the schemas. */
  nameIn(route: RouteOptions): void {
    const { schema } = route;
    if (schema === undefined) return;
    const body = schema.body as Body | undefined;
    const examples = Object.entries(mediaOf(body)).map(([type, { schema }]) => [type, schema.examples?.[0]]);
    route.schema = {
      ...schema,
      ...(body !== undefined && { body: this.#referring(withoutExamples(body)) }),
      ...(schema.response !== undefined && { response: this.#referring(schema.response) }),
      ...(examples.length > 0 && { "x-body-examples": Object.fromEntries(examples) }),
    } as object;
  }

  /** Compiles the serializers of answers: one for each name, when it is first needed. */
  readonly serializers: SerializerFactory = (_schemas, options) => {
    const compile = SerializerSelector()(this.schemas, options);
    return (route) => {
      const { $ref: name } = route.schema as { $ref?: string };
      if (Number(route.httpStatus) >= PROBLEM_STATUS || name === undefined) return JSON.stringify;
      return (answer) => {
        const write = this.#serializers.get(name) ?? compile(route);
        this.#serializers.set(name, write);
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
