/**
 * The OpenAPI document, collected from the routes' schemas. `npm run openapi` writes it to a file, which the service
 * serves; no service collects it.
 */

import swagger from "@fastify/swagger";
import type { FastifySchema } from "fastify";
import type { App } from "./instance.ts";

const DESCRIPTION = `bpf(2)'s map commands as a REST service with a memory. Each command is recorded in a durable log before it
is answered. Maps and elements are computed from the log and, on Linux, written to kernel maps.

Bytes are hex. Integers may be numbers, decimal strings, names of <linux/bpf.h> or lists of flags.
Errors are problem documents of RFC 9457. The problem of a refused command has its errno, the rule that was violated, and
the seq of its event.`;

const TAGS = {
  "syscall door": "bpf(2)'s commands with their attr, as the kernel has them.",
  sessions: "Sessions stand for the kernel's processes: they own descriptors, and end when their lease does.",
  descriptors: "Opening and closing a session's descriptors.",
  "elements by descriptor": "The elements of a map as a process sees them: limited by the descriptor's mode.",
  "elements by map": "The elements of any map, named by id, name or pin.",
  maps: "Listing, reading and watching maps.",
  types: "BTF, and the types of maps' keys and values.",
  mirror: "Kernel maps, and how they follow the ledger's maps.",
  pins: "Pins and directories of bpffs.",
  events: "The log.",
  history: "Earlier versions of maps and their elements.",
  archive: "Older events, moved to compressed files.",
  evidence:
    "Proofs that the log was not changed: its Merkle tree, as C2SP's tlog-tiles has it, and signed checkpoints.",
  replays: "Recorded commands, sent again to another mapledger or to this one.",
  service: "The state of the service itself.",
} as const;

const JSON_TYPE = "application/json";
const PROBLEM_TYPE = "application/problem+json";

export type OpenApiVersion = keyof typeof LICENSES;

/** OpenAPI 3.0 has no license identifier. */
const LICENSES = {
  "3.1.0": { name: "MIT", identifier: "MIT" },
  "3.0.3": { name: "MIT", url: "https://spdx.org/licenses/MIT.html" },
} as const;

/** Registers the collector of schemas. Must be called before the routes are registered. */
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
            description: "If tokens are configured, every request needs one.",
          },
        },
      },
      security: [{}, { bearer: [] }],
    },
    refResolver: { buildLocalReference: (schema, _base, _fragment, at) => (schema.$id as string) ?? `schema-${at}` },
    transform: ({ schema, url }) => ({ schema: problemsApart(schema ?? {}), url }),
    transformObject: (document) => finished(("openapiObject" in document ? document.openapiObject : {}) as Document),
  });
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

/** The document's name for the last parameter of a path, which may have slashes; Fastify's is "*". */
const REST = "index";

/** Hides problem answers from the schema collector: nine answers in ten are problems, all with the same schema. */
function problemsApart(schema: FastifySchema): FastifySchema {
  const { response } = schema as { response?: Record<string, object> };
  if (response === undefined) return schema;
  const [good, problems] = [{}, {}] as [Record<string, object>, Record<string, object>];
  for (const [status, answer] of Object.entries(response)) (status < "400" ? good : problems)[status] = answer;
  return Object.assign({ ...schema, response: good }, { "x-problems": problems });
}

/** Adds the facts that Fastify's schemas cannot express: optional bodies, rests of paths, shared examples, problems. */
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
 * Leaves JSON as the only content type of a body or an answer, because generated clients would otherwise choose
 * another. The other types move to x-other-content; a client selects them by Content-Type or Accept.
 */
function setApart(payload: Payload): void {
  const { [JSON_TYPE]: json, ...others } = payload.content ?? {};
  if (json === undefined || Object.keys(others).length === 0) return;
  payload.content = { [JSON_TYPE]: json };
  payload["x-other-content"] = others;
}
