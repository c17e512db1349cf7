import { Readable } from "node:stream";
import { type ImportParts, importEvents, LINE_BYTES_MAX } from "../jobs/event_import.ts";
import { body, problems, told } from "../schemas/answers.ts";
import { CLOSED, EventLines } from "../schemas/fields.ts";
import { DIFFERENCE_EXAMPLE, DIFFERENCES_MAX, SUMMARY_EXAMPLE } from "../schemas/replays.ts";
import { Type } from "../schemas/type.ts";
import { refuseOthers } from "../server/bodies.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import { NDJSON } from "../server/negotiation.ts";

const EVENT_LINE = `${JSON.stringify({
  seq: 1,
  time: "2026-11-23T20:00:00.000000Z",
  session: null,
  caller: "anonymous",
  peer: "127.0.0.1",
  cmd: "SESSION_OPEN",
  map: null,
  fd: null,
  key: null,
  value: null,
  flags: "0",
  ret: 0,
  errno: null,
  detail: null,
  attr: { name: "loader", ttl_ms: 600_000 },
  out: { session_id: 1 },
})}\n`;

const EventsImported = Type.Object(
  { summary: Type.Ref("ReplaySummary"), differences: Type.Array(Type.Ref("Difference")) },
  { $id: "EventsImported", ...CLOSED },
);

/** The commands of an export, run in this service. */
export async function eventImportRoutes(app: App, { parts }: RouteOptions<ImportParts>): Promise<void> {
  app.removeAllContentTypeParsers();
  refuseOthers(app, parts);
  // The body is read while its commands run, and no faster, so its size has no limit.
  app.addContentTypeParser(NDJSON, (_request, payload, done) => done(null, payload));
  app.post("/replays/import", {
    config: { streamed: true },
    schema: {
      operationId: "importEvents",
      summary: "Run the commands of an export",
      description:
        "Takes NDJSON as GET /v1/events exports it, runs its commands here in their order, as the caller's own, and compares each answer " +
        `with the recorded one. The import ends at a line that cannot be read or has more than ${LINE_BYTES_MAX} bytes; the commands \
before it have run. (\`mapledger import\` takes longer lines.) A command that is too large for one request is left out, and an answer \
that is too long is not compared; \`left_out\` counts both.`,
      tags: ["replays"],
      body: { content: { [NDJSON]: { schema: body(EventLines, EVENT_LINE) } } },
      response: {
        200: told(`A summary of the import, and the first ${DIFFERENCES_MAX} differences.`, EventsImported, {
          summary: SUMMARY_EXAMPLE,
          differences: [DIFFERENCE_EXAMPLE],
        }),
        ...problems({ body: true }, "too-many-jobs"),
      },
    },
    validatorCompiler: () => () => true,
    handler: (request, reply) =>
      importEvents(app, parts, request.body instanceof Readable ? request.body : Readable.from([]), reply),
  });
}
