import { Ajv } from "ajv";
import type { FastifySchema, FastifySchemaCompiler, FastifySchemaValidationError } from "fastify";
import { InvalidInput } from "../codec/invalid.ts";

const OPTIONS = {
  allErrors: false,
  removeAdditional: false,
  useDefaults: true,
  strict: false,
  validateFormats: false,
} as const;

/** Bodies are taken as they are; paths and queries are text, of which numbers are made. */
const strict = new Ajv(OPTIONS);
const coercing = new Ajv({ ...OPTIONS, coerceTypes: true });

const anything = (): true => true;

/** Validators of the routes; headers are read by hand. */
export const validatorCompiler: FastifySchemaCompiler<FastifySchema> = ({ schema, httpPart }) => {
  if (httpPart === "headers") return anything;
  return (httpPart === "body" ? strict : coercing).compile(schema);
};

/** The same for routes whose body codec/body.ts reads. */
export const bodyByHand: FastifySchemaCompiler<FastifySchema> = (route) =>
  route.httpPart === "body" ? anything : validatorCompiler(route);

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
  if (missingProperty !== undefined) return new InvalidInput(where, "it is missing");
  if (additionalProperty !== undefined) return new InvalidInput(where, "there is no such field");
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
