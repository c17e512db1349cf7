import swagger from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import type { FastifySchema } from "fastify";
import type { App } from "./instance.ts";

const DESCRIPTION = `bpf(2)'s map commands as a REST service with a memory: each command is an event in a durable log before it
is answered, and what the events add up to is served, and mirrored into the kernel's maps where there is a kernel below.

Bytes are hex. Integers are taken as numbers, as digits in strings, by the names of <linux/bpf.h>, and as lists of flags.
Errors are problem documents of RFC 9457; where a command was refused they have its errno, the rule that chose it, and the
seq of the event that tells of it.`;

const TAGS = {
  "syscall door": "bpf(2) as it is.",
  sessions: "The kernel's processes: owners of descriptors, with a lease on life.",
  descriptors: "Opening and closing a session's descriptors.",
  "elements by descriptor": "A process's view of a map: what the descriptor allows.",
  "elements by map": "An operator's view of a map: by id, name or pin.",
  maps: "Maps as wholes.",
  mirror: "Kernel maps that follow.",
  pins: "Pins and directories of bpffs.",
  events: "The log.",
  history: "Earlier versions of maps and their elements.",
  archive: "Older events, moved to compressed files.",
  evidence:
    "Proofs that the log was not changed: its Merkle tree, as C2SP's tlog-tiles has it, and signed checkpoints.",
  replays: "Recorded commands again: in another mapledger, and in this one.",
  service: "The state of the service itself.",
} as const;

const JSON_TYPE = "application/json";
const PROBLEM_TYPE = "application/problem+json";
const PAGE = "/docs";
/** Where the page asks for the document, and where it may be had as YAML: both would make it of the routes, in a third of a second. */
const MADE_ANEW: ReadonlySet<string> = new Set([`${PAGE}/json`, `${PAGE}/yaml`]);
const DOCUMENT = "../openapi.json";
/** The page loads from here alone. */
const CONTENT_SECURITY =
  "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'self'; frame-ancestors 'none'; form-action 'none'";

export type OpenApiVersion = keyof typeof LICENSES;

/** A license's identifier is new in 3.1. */
const LICENSES = {
  "3.1.0": { name: "MIT", identifier: "MIT" },
  "3.0.3": { name: "MIT", url: "https://spdx.org/licenses/MIT.html" },
} as const;

/** Registers what collects the routes' schemas into the document, and the page that shows it. Comes before the routes. */
export async function registerDocument(app: App, version: string, openapi: OpenApiVersion): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi,
      info: { title: "mapledger", version, description: DESCRIPTION, license: LICENSES[openapi] },
      servers: [{ url: "/", description: "Where this document came from." }],
      tags: Object.entries(TAGS).map(([name, description]) => ({ name, description })),
      components: {
        securitySchemes: {
          bearer: {
            type: "http",
            scheme: "bearer",
            description: "Where tokens are configured, every request needs one.",
          },
        },
      },
      security: [{}, { bearer: [] }],
    },
    refResolver: { buildLocalReference: (schema, _base, _fragment, at) => (schema.$id as string) ?? `schema-${at}` },
    transform: ({ schema, url }) => ({ schema: problemsApart(schema ?? {}), url }),
    transformObject: (document) => finished(("openapiObject" in document ? document.openapiObject : {}) as Document),
  });
  await app.register(swaggerUi, {
    routePrefix: PAGE,
    staticCSP: CONTENT_SECURITY,
    uiConfig: { validatorUrl: null, deepLinking: true },
    theme: { title: "mapledger" },
    uiHooks: {
      onRequest: async ({ routeOptions: { url = "" } }, reply) =>
        MADE_ANEW.has(url) ? reply.redirect(DOCUMENT) : undefined,
    },
  });
  app.get("/", { schema: { hide: true } }, async (_request, reply) => reply.redirect(PAGE));
}

interface Media {
  example?: unknown;
  examples?: Record<string, object>;
}

/** A body or an answer. */
interface Payload {
  required?: boolean;
  content?: Record<string, Media>;
  "x-other-content"?: Record<string, Media>;
}

interface Operation {
  parameters?: { name: string }[];
  requestBody?: Payload;
  responses: Record<string, Payload>;
  "x-body-optional"?: true;
  "x-body-examples"?: Record<string, unknown>;
  "x-problems"?: Record<string, Payload>;
}

interface Document {
  components?: { examples?: Record<string, object> };
  paths?: Record<string, Record<string, Operation>>;
}

/** How the rest of a path is called that may have slashes of its own; Fastify calls it "*". */
const REST = "index";

/** Nine answers in ten are problems, of one schema: what collects the schemas need not look into them. */
function problemsApart(schema: FastifySchema): FastifySchema {
  const { response } = schema as { response?: Record<string, object> };
  if (response === undefined) return schema;
  const [good, problems] = [{}, {}] as [Record<string, object>, Record<string, object>];
  for (const [status, answer] of Object.entries(response)) (status < "400" ? good : problems)[status] = answer;
  return Object.assign({ ...schema, response: good }, { "x-problems": problems });
}

/** What Fastify's schemas have no word for: bodies that may be left out, rests of paths, and examples that are shared. */
function finished(document: Document): Document {
  const shared: Record<string, object> = {};
  const paths = Object.fromEntries(
    Object.entries(document.paths ?? {}).map(([path, operations]) => [path.replace("{*}", `{${REST}}`), operations]),
  );
  for (const operation of Object.values(paths).flatMap((operations) => Object.values(operations))) {
    if (operation["x-body-optional"] === true && operation.requestBody !== undefined)
      operation.requestBody.required = false;
    delete operation["x-body-optional"];
    for (const [type, example] of Object.entries(operation["x-body-examples"] ?? {}))
      Object.assign(operation.requestBody?.content?.[type] ?? {}, { example });
    delete operation["x-body-examples"];
    for (const payload of [operation.requestBody ?? {}, ...Object.values(operation.responses)]) setApart(payload);
    for (const parameter of operation.parameters ?? []) if (parameter.name === "*") parameter.name = REST;
    for (const [status, { content, ...rest }] of Object.entries(operation["x-problems"] ?? {})) {
      const { examples = {} } = content?.[PROBLEM_TYPE] ?? {};
      Object.assign(shared, examples);
      const named = Object.keys(examples).map((name) => [name, { $ref: `#/components/examples/${name}` }]);
      const problem = { schema: { $ref: "#/components/schemas/Problem" }, examples: Object.fromEntries(named) };
      operation.responses[status] = { ...rest, content: { [PROBLEM_TYPE]: problem } };
    }
    delete operation["x-problems"];
  }
  const examples = Object.fromEntries(Object.entries(shared).sort(([a], [b]) => (a < b ? -1 : 1)));
  return { ...document, paths, components: { ...document.components, examples } };
}

/**
 * Where there is JSON, clients that are generated send and get nothing else, or take the wrong one of several types: the other
 * types, which a Content-Type or an Accept has to name, stand beside it.
 */
function setApart(payload: Payload): void {
  const { [JSON_TYPE]: json, ...others } = payload.content ?? {};
  if (json === undefined || Object.keys(others).length === 0) return;
  payload.content = { [JSON_TYPE]: json };
  payload["x-other-content"] = others;
}
