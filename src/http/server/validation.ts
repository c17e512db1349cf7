import { Ajv, type ValidateFunction } from "ajv";
import type { FastifySchema, FastifySchemaCompiler, FastifySchemaValidationError } from "fastify";
import { InvalidInput } from "../../codec/invalid.ts";
import type { Names } from "./names.ts";

const OPTIONS = {
  allErrors: false,
  removeAdditional: false,
  useDefaults: true,
  strict: false,
  validateFormats: false,
  validateSchema: false,
} as const;

/** Paths and queries are text, of which numbers are made. */
const coercing = new Ajv({ ...OPTIONS, coerceTypes: true });

const anything = (): true => true;

/** Validators of routes whose body codec/body.ts reads; headers are read by hand everywhere. */
export const bodyByHand: FastifySchemaCompiler<FastifySchema> = ({ schema, httpPart }) =>
  httpPart === "headers" || httpPart === "body" ? anything : whenAsked(() => coercing.compile(schema));

/** Validators of all others: bodies are taken as they are. */
export function validators(names: Pick<Names, "schemas">): FastifySchemaCompiler<FastifySchema> {
  let strict: Ajv | null = null;
  return (route) => {
    if (route.httpPart !== "body") return bodyByHand(route);
    return whenAsked(() => {
      strict ??= new Ajv(OPTIONS).addSchema(Object.values(names.schemas));
      return strict.compile(route.schema);
    });
  };
}

/** Compiled when the first request comes: a start has hundreds, and most serve none. */
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

/** How the document calls the parts of a request that have names. */
const PARTS: Readonly<Record<string, string>> = { querystring: "query", params: "path" };

interface Params {
  readonly missingProperty?: string;
  readonly additionalProperty?: string;
  readonly allowedValues?: readonly unknown[];
}

/**
 * What a validator has found, as the place in the request and what is wrong with it. Of a value that may be this or that, it
 * tells what is wrong with each: what lies deepest is about the one that was meant, and of equals what is about a field that
 * is there.
 */
export function validationFault(errors: FastifySchemaValidationError[], part: string): InvalidInput {
  const error = errors.reduce((deepest, other) => (rankOf(other) > rankOf(deepest) ? other : deepest));
  const { missingProperty, additionalProperty, allowedValues } = error.params as Params;
  const where = [PARTS[part] ?? "", ...placeOf(error)].filter((name) => name !== "").join(".") || part;
  if (missingProperty !== undefined) return new InvalidInput(where, "required");
  if (additionalProperty !== undefined) return new InvalidInput(where, "no such field");
  if (allowedValues !== undefined) return new InvalidInput(where, `it must be one of ${allowedValues.join(", ")}`);
  return new InvalidInput(where, `it ${error.message ?? "is not valid"}`);
}

function rankOf(error: FastifySchemaValidationError): number {
  return 2 * placeOf(error).length + ("missingProperty" in error.params ? 0 : 1);
}

function placeOf({ instancePath, params }: FastifySchemaValidationError): string[] {
  const { missingProperty, additionalProperty } = params as Params;
  const named = missingProperty ?? additionalProperty;
  return [...instancePath.split("/").slice(1), ...(named === undefined ? [] : [named])];
}
