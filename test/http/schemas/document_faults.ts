import { readdirSync, readFileSync } from "node:fs";
import type { Document, Payload, Schema } from "../document.ts";

const NAMED = "#/components/schemas/";
/** Whatever somebody else has defined. */
const FREE = new Set(["OpenApiDocument"]);
/**
 * Fields of events whose type depends on the command: what the log has of them is for good. And elements by the types of
 * their map.
 */
const OF_ANY_TYPE = new Set([
  ...["EventAttr.map", "EventAttr.was", "EventAttr.continues"],
  ...["MapElement", "Value", "FormedBody"].flatMap((name) => [`${name}.typed`, `${name}.formatted`]),
]);
/** Keywords whose values are data, and hold no schemas. */
const DATA = new Set(["default", "enum", "example", "examples", "discriminator"]);

const LIBRARIES = new URL("../../../node_modules/typescript/lib/", import.meta.url);
const DECLARED = /^(?:declare (?:var|let|const|class|function|namespace|type)|interface|type) (\w+)/gm;

/** Names that a module in JavaScript or TypeScript has without importing them: the language's, browsers' and Node's. */
export function globalNames(): ReadonlySet<string> {
  const libraries = readdirSync(LIBRARIES).filter((name) => /^lib\..*\.d\.ts$/.test(name));
  const declared = libraries.flatMap((name) => [...readFileSync(new URL(name, LIBRARIES), "utf8").matchAll(DECLARED)]);
  return new Set([...declared.map(([, name]) => name as string), ...Object.getOwnPropertyNames(globalThis)]);
}

/** What in a document generators make unsound clients of. */
export function* documentFaults(document: Document, globals: ReadonlySet<string>): Iterable<string> {
  const { paths, components } = document;
  const text = JSON.stringify(document);
  for (const operation of Object.values(paths).flatMap((path) => Object.values(path))) {
    const { operationId, requestBody, responses } = operation;
    yield* payloadFaults(`${operationId} body`, requestBody ?? {});
    for (const [status, answer] of Object.entries(responses)) yield* payloadFaults(`${operationId} ${status}`, answer);
  }
  for (const [name, schema] of Object.entries(components.schemas)) {
    if (!text.includes(`"${NAMED}${name}"`)) yield `${name}: nothing refers to it`;
    if (globals.has(name)) yield `${name}: JavaScript has something of this name`;
    if (!FREE.has(name)) yield* schemaFaults(name, schema, components.schemas, true);
  }
}

function* payloadFaults(where: string, { content = {}, "x-other-content": others = {} }: Payload): Iterable<string> {
  const types = Object.keys(content);
  if (types.length > 1 && types.some((type) => type.startsWith("application/json")))
    yield `${where}: generators take one type of ${types.join(", ")}`;
  for (const [type, { schema }] of Object.entries({ ...content, ...others }))
    if (schema.$ref?.startsWith(NAMED) !== true) yield `${where} ${type}: it has no name`;
}

function* schemaFaults(
  where: string,
  schema: Schema,
  schemas: Document["components"]["schemas"],
  isNamed = false,
): Iterable<string> {
  const { $ref, type, properties, additionalProperties: others, oneOf, discriminator, enum: words } = schema;
  const types = [type].flat();
  if ("anyOf" in schema) yield `${where}: anyOf`;
  if (Array.isArray(words) && words.includes(null)) yield `${where}: null in an enum`;
  if ($ref === undefined && type === undefined && oneOf === undefined && !OF_ANY_TYPE.has(where))
    yield `${where}: it has no type`;
  if (types.includes("object")) {
    const isMap = typeof others === "object" && Object.keys(others as object).length > 0;
    if (!isMap && (others !== false || properties === undefined)) yield `${where}: a free object`;
    if (!isMap && !isNamed) yield `${where}: it has no name`;
  }
  if (Array.isArray(oneOf)) {
    const objects = oneOf.filter((one: Schema) => [resolved(one, schemas).type].flat().includes("object"));
    if (objects.length > 1 && discriminator === undefined) yield `${where}: oneOf without a discriminator`;
  }
  for (const [name, field] of Object.entries((properties ?? {}) as Record<string, Schema>))
    yield* schemaFaults(`${where}.${name}`, field, schemas);
  for (const [keyword, part] of Object.entries(schema))
    if (keyword !== "properties" && !DATA.has(keyword))
      for (const [at, one] of [part].flat().entries())
        if (typeof one === "object" && one !== null)
          yield* schemaFaults(`${where}.${keyword}[${at}]`, one as Schema, schemas);
}

function resolved(schema: Schema, schemas: Document["components"]["schemas"]): Schema {
  return schema.$ref === undefined ? schema : (schemas[schema.$ref.slice(NAMED.length)] as Schema);
}
