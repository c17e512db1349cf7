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
  pins: "Pins and directories of bpffs.",
  events: "The log.",
  service: "What the service says about itself.",
} as const;

/** Registers what collects the routes' schemas into the document, and the page that shows it. Comes before the routes. */
export async function registerDocument(app: App, version: string): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: { title: "mapledger", version, description: DESCRIPTION, license: { name: "MIT", identifier: "MIT" } as never },
      servers: [{ url: "/", description: "Where this document came from." }],
      tags: Object.entries(TAGS).map(([name, description]) => ({ name, description })),
      components: {
        securitySchemes: {
          bearer: { type: "http", scheme: "bearer", description: "Where tokens are configured, every request needs one." },
        },
      },
      security: [{}, { bearer: [] }],
    },
    refResolver: { buildLocalReference: (schema, _base, _fragment, at) => (schema.$id as string) ?? `schema-${at}` },
    transformObject: (document) => finished("openapiObject" in document ? document.openapiObject : {}) as never,
  });
  await app.register(swaggerUi, {
    routePrefix: "/docs",
    staticCSP: true,
    uiConfig: { validatorUrl: null, deepLinking: true } as never,
    uiHooks: {},
    theme: { title: "mapledger" },
  });
}

interface Operation {
  requestBody?: { required?: boolean };
  "x-body-optional"?: true;
}

/** Bodies that may be left out, which Fastify's schemas have no word for. */
function finished(document: { paths?: object }): object {
  for (const operations of Object.values(document.paths ?? {}) as Record<string, Operation>[])
    for (const operation of Object.values(operations)) {
      if (operation["x-body-optional"] !== true) continue;
      delete operation["x-body-optional"];
      if (operation.requestBody !== undefined) operation.requestBody.required = false;
    }
  return document;
}
