import swagger from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import type { App } from "./parts.ts";

const DESCRIPTION = `bpf(2)'s map commands as a REST service with a memory: each command is an event in a durable log before it
is answered, and what the events add up to is served, and mirrored into the kernel's maps where there is a kernel below.

Bytes are hex. Integers are taken as numbers, as digits in strings, by the names of <linux/bpf.h>, and as lists of flags.
Errors are problem documents of RFC 9457; where a command was refused they have its errno, the rule that chose it, and the
seq of the event that tells of it.`;

const TAGS = {
  "syscall door": "bpf(2) as it is.",
  sessions: "What the kernel calls processes: owners of descriptors, with a lease on life.",
  descriptors: "What opens and closes a session's descriptors.",
  "elements by descriptor": "A process's view of a map: what the descriptor allows.",
  "elements by map": "An operator's view of a map: by id, name or pin.",
  maps: "Maps as wholes.",
  mirror: "Kernel maps that follow.",
  pins: "Pins and directories of bpffs.",
  events: "The log.",
  history: "What became of maps and their elements.",
  archive: "Older events, moved to compressed files.",
  evidence:
    "What proves that the log is what it was: its Merkle tree, as C2SP's tlog-tiles has it, and signed checkpoints.",
  replays: "Recorded commands again: in another mapledger, and in this one.",
  service: "What the service says about itself.",
} as const;

/** The page loads from here alone. */
const CONTENT_SECURITY =
  "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'self'; frame-ancestors 'none'; form-action 'none'";

/** Registers what collects the routes' schemas into the document, and the page that shows it. Comes before the routes. */
export async function registerDocument(app: App, version: string): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "mapledger",
        version,
        description: DESCRIPTION,
        license: { name: "MIT", identifier: "MIT" } as never,
      },
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
    transformObject: (document) =>
      finished(("openapiObject" in document ? document.openapiObject : {}) as Document) as never,
  });
  await app.register(swaggerUi, {
    routePrefix: "/docs",
    staticCSP: CONTENT_SECURITY,
    uiConfig: { validatorUrl: null, deepLinking: true } as never,
    theme: { title: "mapledger" },
  });
}

interface Operation {
  parameters?: { name: string }[];
  requestBody?: { required?: boolean };
  responses: Record<string, { content?: Record<string, { examples?: Record<string, object> }> }>;
  "x-body-optional"?: true;
}

interface Document {
  components?: { examples?: Record<string, object> };
  paths?: Record<string, Record<string, Operation>>;
}

/** How the rest of a path is called that may have slashes of its own; Fastify calls it "*". */
const REST = "index";

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
    for (const parameter of operation.parameters ?? []) if (parameter.name === "*") parameter.name = REST;
    for (const { content = {} } of Object.values(operation.responses)) {
      const problem = content["application/problem+json"];
      if (problem?.examples === undefined) continue;
      Object.assign(shared, problem.examples);
      problem.examples = Object.fromEntries(
        Object.keys(problem.examples).map((name) => [name, { $ref: `#/components/examples/${name}` }]),
      );
    }
  }
  const examples = Object.fromEntries(Object.entries(shared).sort(([a], [b]) => (a < b ? -1 : 1)));
  return { ...document, paths, components: { ...document.components, examples } };
}
