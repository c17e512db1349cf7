import { readFileSync, writeFileSync } from "node:fs";
import { openApiDocument } from "./openapi_document.ts";

/**
 * Writes the OpenAPI documents that the routes' schemas make; with --check, fails where the committed ones are others.
 */

const ROOT = new URL("../", import.meta.url);
const check = process.argv.includes("--check");

const files = {
  "openapi/openapi.json": json(await openApiDocument()),
  "openapi/openapi-3.0.json": json(await openApiDocument("3.0.3")),
};

let stale = 0;
for (const [name, text] of Object.entries(files)) {
  const file = new URL(name, ROOT);
  if (!check) writeFileSync(file, text);
  else if (readOrNothing(file) !== text) {
    process.stderr.write(`${name} is not what the routes say: run npm run openapi\n`);
    stale++;
  }
}
process.exitCode = stale;

function json(content: object): string {
  return `${JSON.stringify(content, null, 2)}\n`;
}

function readOrNothing(file: URL): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
