import { readFileSync, writeFileSync } from "node:fs";
import { Converter } from "@apiture/openapi-down-convert";
import openapiTypescript, { astToString } from "openapi-typescript";
import { openApiDocument } from "./openapi_document.ts";

/**
 * Writes the OpenAPI documents that the routes' schemas make, and the types of the client that the tests use; with
 * --check, fails where the committed ones are others.
 */

const ROOT = new URL("../", import.meta.url);
const check = process.argv.includes("--check");

const document = await openApiDocument();
const files = {
  "openapi/openapi.json": json(document),
  "openapi/openapi-3.0.json": json(downConvert(document)),
  "test/http/generated/api.ts": astToString(await openapiTypescript(structuredClone(document) as never)),
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

/** For generators that know no OpenAPI 3.1; a license's identifier is new in that, so it has an address instead. */
function downConvert(document: object): object {
  const converted = new Converter(structuredClone(document), { allOfTransform: true }).convert() as Converted;
  converted.info.license.url = "https://spdx.org/licenses/MIT.html";
  return converted;
}

interface Converted {
  readonly info: { readonly license: { url?: string } };
}

function readOrNothing(file: URL): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
