import { readFileSync } from "node:fs";
import { test } from "tap";
import { openApiDocument } from "../../../scripts/openapi_document.ts";
import { ERRNO } from "../../../src/abi/errno.ts";
import { ERRNO_PROBLEMS, PROBLEMS } from "../../../src/http/schemas/problems.ts";
import type { Document, Payload } from "../document.ts";
import { DOCUMENT, Service } from "../service.ts";
import { documentFaults, globalNames } from "./document_faults.ts";

const FILES = { "openapi.json": "3.1.0", "openapi-3.0.json": "3.0.3" } as const;

function committed(name: string): string {
  return readFileSync(new URL(`../../../openapi/${name}`, import.meta.url), "utf8");
}

/** Problems that come before there is an operation to document them. */
const BEFORE_ROUTES = ["no-such-route", "method-not-allowed", "request-timeout", "header-too-large"];
/** Errnos that no route answers with: no served command gives them, or (ELOOP) BPF_BTF_LOAD alone, at the door, where a command is 200. */
const NO_ROUTES = ["EBADFD", "EINPROGRESS", "ELOOP"];

test("the committed documents are what the routes say", async (t) => {
  for (const [name, version] of Object.entries(FILES))
    t.equal(committed(name), `${JSON.stringify(await openApiDocument(version), null, 2)}\n`, "run npm run openapi");
});

test("every response says in a sentence what its body holds", (t) => {
  const { paths } = JSON.parse(committed("openapi.json")) as Document;
  const operations = Object.values(paths).flatMap((methods) => Object.values(methods));
  const responses = operations.flatMap(({ operationId, responses }) =>
    Object.entries(responses).map(([status, { description }]) => ({ of: `${operationId} ${status}`, description })),
  );
  t.ok(responses.length > 500);
  t.same(
    responses.filter(({ description }) => !/^[A-Z].{20,}\.$/.test(description)),
    [],
  );
  t.end();
});

test("generators find a name for everything, one type for each field, and nothing that they cannot say", (t) => {
  const globals = globalNames();
  for (const name of ["Map", "Event", "Element", "Path2D", "process"]) t.ok(globals.has(name), name);
  for (const name of Object.keys(FILES)) {
    const document = JSON.parse(committed(name)) as Document;
    t.same([...documentFaults(document, globals)], [], name);
    t.ok(Object.keys(document.components.schemas).length > 100);
  }
  t.end();
});

test("what generators stumble over is found", (t) => {
  const globals = globalNames();
  const object = { type: "object", properties: {}, additionalProperties: false };
  const [value, pin, hex] = ["Value", "Pin", "Hex"].map((name) => ({ $ref: `#/components/schemas/${name}` }));
  const json = { "application/json": { schema: object } };
  const more = ["components", "schemas", "Done", "properties", "more"];
  const answer = ["paths", "/v1/maps/{map}", "get", "responses", "200", "content"];
  const rows: [fault: string, at: string[], put: object][] = [
    ["getMap 200 application/json: it has no name", answer, json],
    [
      "openSession body application/json: it has no name",
      ["paths", "/v1/sessions", "post", "requestBody", "content"],
      json,
    ],
    [
      "getMap 200: generators take one type of application/json, text/plain",
      [...answer, "text/plain"],
      { schema: hex },
    ],
    ["Event: JavaScript has something of this name", ["components", "schemas", "Event"], object],
    ["Unused: nothing refers to it", ["components", "schemas", "Unused"], object],
    ["Done.more: anyOf", more, { type: "string", anyOf: [{ maxLength: 1 }, { minLength: 3 }] }],
    ["Done.more: null in an enum", more, { type: ["string", "null"], enum: ["a", null] }],
    ["Done.more: a free object", more, { type: ["object", "null"], additionalProperties: true }],
    ["Done.more: a free object", more, { type: "object" }],
    ["Done.more: it has no type", more, { description: "?" }],
    ["Done.more.items[0]: it has no name", more, { type: "array", items: object }],
    ["Done.more: oneOf without a discriminator", more, { oneOf: [value, pin] }],
  ];
  for (const [fault, at, put] of rows) {
    const document = JSON.parse(committed("openapi.json"));
    const name = at.at(-1) as string;
    at.slice(0, -1).reduce((part, step) => part[step], document)[name] = put;
    t.ok([...documentFaults(document, globals)].includes(fault), fault);
  }
  t.end();
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
    for (const media of [...good, requestBody ?? {}].flatMap(mediaOf))
      t.ok(media.example !== undefined, `${operationId} has an example`);
    for (const status of ["403", "500", "503"]) t.ok(status in responses, `${operationId} ${status}`);
  }
});

interface Documented {
  readonly operationId: string;
  readonly summary: string;
  readonly tags: readonly string[];
  readonly requestBody?: Payload;
  readonly responses: Record<string, Payload>;
}

function mediaOf({ content = {}, "x-other-content": others = {} }: Payload) {
  return [...Object.values(content), ...Object.values(others)];
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
  const wanted = names.filter((name) => !BEFORE_ROUTES.includes(name) && !NO_ROUTES.includes(name));
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
  t.same((await service.send("GET", "/openapi.json")).json().paths, DOCUMENT.paths);
});

test("nobody has the document made anew: the page is led to the one that is there", async (t) => {
  const service = await Service.start(t);
  for (const path of ["json", "json?x", "json/", "%6Ason", "yaml"]) {
    const { statusCode, headers } = await service.app.inject(`/docs/${path}`);
    t.ok(
      statusCode === 404 || (statusCode === 302 && headers.location === "../openapi.json"),
      `${path}: ${statusCode}`,
    );
  }
});
