import { readFileSync } from "node:fs";
import { test } from "tap";
import { openApiDocument } from "../../scripts/openapi_document.ts";
import { ERRNO } from "../../src/abi/errno.ts";
import { ERRNO_PROBLEMS, PROBLEMS } from "../../src/http/problems.ts";
import type { Document } from "./document.ts";
import { Service } from "./service.ts";

/** Problems that come before there is an operation to document them. */
const BEFORE_ROUTES = ["no-such-route", "method-not-allowed", "request-timeout", "header-too-large"];
/** Errnos that no served command gives. */
const NOT_YET = ["EAGAIN", "EBADFD", "EINPROGRESS"];

test("the committed document is what the routes say", async (t) => {
  const committed = readFileSync(new URL("../../openapi/openapi.json", import.meta.url), "utf8");
  t.equal(committed, `${JSON.stringify(await openApiDocument(), null, 2)}\n`, "run npm run openapi");
});

test("every operation has an id of its own, a summary, a tag, an example and its errors", async (t) => {
  const document = (await openApiDocument()) as unknown as Document & { tags: { name: string }[] };
  const tags = document.tags.map(({ name }) => name);
  const ids = new Set<string>();
  for (const operation of Object.values(document.paths).flatMap((path) => Object.values(path))) {
    const { operationId, summary, tags: own, requestBody, responses } = operation as unknown as Documented;
    t.match(operationId, /^[a-z][A-Za-z]+$/);
    t.notOk(ids.has(operationId), `${operationId} is one operation's`);
    ids.add(operationId);
    t.ok(summary.length > 0 && own.length === 1 && tags.includes(own[0] as string), operationId);
    const good = Object.entries(responses)
      .filter(([status]) => status < "300")
      .map(([, response]) => response);
    t.equal(good.length, "206" in responses ? 2 : 1);
    for (const media of [...good, requestBody ?? {}].flatMap(({ content = {} }) => Object.values(content)))
      t.ok(media.example !== undefined, `${operationId} has an example`);
    for (const status of ["403", "500", "503"]) t.ok(status in responses, `${operationId} ${status}`);
  }
});

interface Documented {
  readonly operationId: string;
  readonly summary: string;
  readonly tags: readonly string[];
  readonly requestBody?: { readonly content: Record<string, { readonly example?: unknown }> };
  readonly responses: Record<string, { readonly content?: Record<string, { readonly example?: unknown }> }>;
}

test("reads of an earlier moment say that it may be archived", async (t) => {
  const document = (await openApiDocument()) as unknown as Document;
  const reads = Object.values(document.paths)
    .flatMap((path) => Object.values(path))
    .filter(({ parameters }) => parameters?.some(({ name }) => name === "at"));
  t.ok(reads.length > 10, `${reads.length} of them`);
  for (const { operationId, responses } of reads)
    t.match(JSON.stringify(responses["410"]), "#/components/examples/archived", operationId);
});

test("every problem and every errno has an example in the document", async (t) => {
  const document = (await openApiDocument()) as { components: { examples: Record<string, object> } };
  const names = [...Object.keys(PROBLEMS), ...Object.keys(ERRNO)];
  const wanted = names.filter((name) => !BEFORE_ROUTES.includes(name) && !NOT_YET.includes(name));
  t.same(Object.keys(document.components.examples).sort(), wanted.sort());
  t.same(Object.keys(ERRNO_PROBLEMS), Object.keys(ERRNO));
});

test("the page of the document asks nothing of other hosts", async (t) => {
  const service = await Service.start(t);
  const page = await service.app.inject("/docs/");
  t.notMatch(page.body, /(src|href)="(https?:)?\/\//);
  t.equal(
    page.headers["content-security-policy"],
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'self'; frame-ancestors 'none'; form-action 'none'",
  );
  const initializer = await service.app.inject("/docs/static/swagger-initializer.js");
  t.match(initializer.body, /"validatorUrl":null/);
  for (const [, file] of page.body.matchAll(/(?:src|href)="\.\/([^"]+)"/g))
    t.equal((await service.app.inject(`/docs/${file}`)).statusCode, 200, file ?? "");
  t.same((await service.send("GET", "/openapi.json")).json().paths, service.app.swagger().paths);
});
