/** Modules that requests need and no start does. They are loaded by the first request that needs them. */

import { createRequire } from "node:module";
import { Problem } from "./problems.ts";

const require = createRequire(import.meta.url);

export const ajv = (): typeof import("ajv") => loaded("ajv");

export const serializers = (): typeof import("@fastify/fast-json-stringify-compiler") =>
  loaded("@fastify/fast-json-stringify-compiler");

export const swaggerUi = (): typeof import("@fastify/swagger-ui") => loaded("@fastify/swagger-ui");

/**
 * Loads what most requests need: soon after a start there are descriptors for it. Never throws: a request that needs
 * what could not be loaded tries again.
 */
export function loadLate(report: (error: unknown) => void): void {
  try {
    ajv();
    serializers();
  } catch (error) {
    report(error);
  }
}

function loaded(name: string): never {
  try {
    return require(name) as never;
  } catch (error) {
    throw new Problem("unavailable", `loading ${name}: ${(error as Error).message}`);
  }
}
