/**
 * Builders of JSON Schemas. Their types are typebox's, so that the compiler knows the values that a schema allows.
 * typebox's own builders make the same schemas, but their 370 modules took an eighth of a start.
 */

import type { Type as Typebox } from "typebox";

/** Marks the schema of a property that an object need not have. JSON does not show it. */
const OPTIONAL = Symbol("optional");

/** The types of the builders do not follow from their bodies: they are typebox's. */
const schema = (keywords: object, options?: object): never => ({ ...keywords, ...options }) as never;

export const Type: Pick<
  typeof Typebox,
  "Array" | "Boolean" | "Enum" | "Integer" | "Null" | "Number" | "Object" | "Optional" | "Ref" | "String" | "Unsafe"
> = {
  Array: (items: object, options?: object) => schema({ type: "array", items }, options),
  Boolean: (options) => schema({ type: "boolean" }, options),
  Enum: (values: object, options?: object) => schema({ enum: values }, options),
  Integer: (options) => schema({ type: "integer" }, options),
  Null: (options) => schema({ type: "null" }, options),
  Number: (options) => schema({ type: "number" }, options),
  Object(properties: Readonly<Record<string, object>>, options?: object) {
    const required = Object.keys(properties).filter((name) => !(OPTIONAL in (properties[name] as object)));
    return schema({ type: "object", ...(required.length > 0 && { required }), properties }, options);
  },
  Optional: (one: object) => schema(one, { [OPTIONAL]: true }),
  Ref: (name: string, options?: object) => schema({ $ref: name }, options),
  String: (options) => schema({ type: "string" }, options),
  Unsafe: (one) => schema(one),
};
