/** Validators of paths, queries and bodies, and the texts of their errors. */

import type { Ajv, ValidateFunction } from "ajv";
import type { FastifySchema, FastifySchemaCompiler, FastifySchemaValidationError } from "fastify";
import { InvalidInput } from "../../codec/invalid.ts";
import { ajv } from "./late_modules.ts";
import type { Names } from "./names.ts";

const OPTIONS = {
  allErrors: false,
  removeAdditional: false,
  useDefaults: true,
  strict: false,
  validateFormats: false,
  validateSchema: false,
} as const;

let coercingAjv: Ajv | null = null;
/** For paths and queries: converts texts to numbers and booleans. */
function coercing(): Ajv {
  coercingAjv ??= new (ajv().Ajv)({ ...OPTIONS, coerceTypes: true });
  return coercingAjv;
}

const anything = (): true => true;

/** Validators of routes whose body `codec/body.ts` checks. Headers have no validator on any route. */
export const bodyByHand: FastifySchemaCompiler<FastifySchema> = ({ schema, httpPart }) =>
  httpPart === "headers" || httpPart === "body" ? anything : whenAsked(() => coercing().compile(schema));

/** Validators of all other routes: bodies are validated without conversion. */
export function validators(names: Pick<Names, "schemas" | "ofBody">): FastifySchemaCompiler<FastifySchema> {
  let strict: Ajv | null = null;
  return (route) => {
    if (route.httpPart !== "body") return bodyByHand(route);
    return whenAsked(() => {
      strict ??= new (ajv().Ajv)(OPTIONS).addSchema(Object.values(names.schemas));
      return strict.compile(names.ofBody(route.schema));
    });
  };
}

/** Compiles a validator when its first request comes: a start has hundreds, and most are never used. */
function whenAsked(compile: () => ValidateFunction) {
  let validate: ValidateFunction | null = null;
  const check = (data: unknown): boolean => {
    validate ??= compile();
    const isValid = validate(data);
    check.errors = validate.errors ?? null;
    return isValid;
  };
  check.errors = null as NonNullable<ValidateFunction["errors"]> | null;
  return check;
}

/** The names that the OpenAPI document has for parts of a request. */
const PARTS: Readonly<Record<string, string>> = { querystring: "query", params: "path" };

interface Params {
  readonly missingProperty?: string;
  readonly additionalProperty?: string;
  readonly allowedValues?: readonly unknown[];
}

/**
 * An error that names the place and the rule. For a value with alternatives Ajv reports an error for each: the deepest
 * is the one about the alternative that the caller meant. Among equally deep ones, an error about a present field wins
 * over a missing field.
 */
export function validationFault(errors: FastifySchemaValidationError[], part: string): InvalidInput {
  const error = errors.reduce((deepest, other) => (rankOf(other) > rankOf(deepest) ? other : deepest));
  const { missingProperty, additionalProperty, allowedValues } = error.params as Params;
  const where = [PARTS[part] ?? "", ...placeOf(error)].filter((name) => name !== "").join(".") || part;
  if (missingProperty !== undefined) return new InvalidInput(where, "required");
  if (additionalProperty !== undefined) return new InvalidInput(where, "no such field");
  if (allowedValues !== undefined) return new InvalidInput(where, `must be one of ${allowedValues.join(", ")}`);
  return new InvalidInput(where, error.message ?? "not valid");
}

function rankOf(error: FastifySchemaValidationError): number {
  return 2 * placeOf(error).length + ("missingProperty" in error.params ? 0 : 1);
}

function placeOf({ instancePath, params }: FastifySchemaValidationError): string[] {
  const { missingProperty, additionalProperty } = params as Params;
  const named = missingProperty ?? additionalProperty;
  return [...instancePath.split("/").slice(1), ...(named === undefined ? [] : [named])];
}
