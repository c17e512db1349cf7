/** An import: the commands of an export are sent to the service itself, as its caller's, while their lines come in. */
import type { Readable } from "node:stream";
import type { FastifyReply } from "fastify";
import type { Turns } from "../../engine/turn_queue.ts";
import { ApiTarget } from "../../replay/api_target.ts";
import { tooLarge } from "../../replay/bounds.ts";
import type { Difference } from "../../replay/compare.ts";
import { Ids } from "../../replay/ids.ts";
import { BadLine, readEventLines } from "../../replay/lines.ts";
import { Replay } from "../../replay/replay.ts";
import type { Summary } from "../../replay/summary.ts";
import { TargetFailed } from "../../replay/target.ts";
import type { Flight, Load } from "../server/flight.ts";
import type { App } from "../server/instance.ts";
import { Problem } from "../server/problems.ts";
import { FirstDifferences } from "./differences.ts";
import type { Jobs } from "./jobs.ts";
import { type OwnParts, OwnRequests } from "./own_requests.ts";

/** Bytes of a line that is imported: apart from reading it, everything is done at once with its event. */
export const LINE_BYTES_MAX = 8 * 1024 * 1024;
const LF = 10;

export interface ImportParts extends OwnParts {
  readonly jobs: Pick<Jobs, "beginImport">;
  readonly flight: Flight;
  readonly turns: Turns;
}

/** Runs the commands of an export as the sender of a request. Throws the problem of an import that broke off. */
export async function importEvents(
  app: App,
  parts: ImportParts,
  lines: Readable,
  reply: FastifyReply,
): Promise<{ readonly summary: Summary; readonly differences: readonly Difference[] }> {
  const { caller: name, scopes, limits, peer } = reply.request;
  const end = parts.jobs.beginImport(name);
  const own = new OwnRequests(app, parts, { name, scopes, ...(limits !== undefined && { limits }) }, peer);
  const pieces = counted(lines, parts.flight.loadOf(reply.raw));
  const reading = { bytesMax: LINE_BYTES_MAX, pause: () => parts.turns.take() };
  const differences = new FirstDifferences();
  const replay = new Replay({
    source: { extent: null, done: 0, read: () => readEventLines(pieces, reading) },
    target: new ApiTarget(own),
    ids: new Ids(),
    selection: {},
    prepare: false,
    pace: null,
    leaveOut: tooLarge,
    onDifference: (difference) => differences.add(difference),
  });
  try {
    return { summary: await replay.run(), differences: differences.list };
  } catch (error) {
    throw brokenOff(error, replay.summary.last_seq);
  } finally {
    own.end();
    end();
  }
}

/** How far an import came that was broken off. */
function brokenOff(error: unknown, lastSeq: number): unknown {
  const far = `the commands before have run, up to event ${lastSeq}`;
  if (error instanceof BadLine) return new Problem("invalid-input", `${error.message}; ${far}`, { where: error.where });
  if (error instanceof TargetFailed) return new Problem("unavailable", `${error.message}; ${far}`);
  return error;
}

/** Bytes as they come; a line that has not come to its end is counted as in flight. */
async function* counted(stream: AsyncIterable<Buffer>, load: Load): AsyncIterable<Buffer> {
  let held = 0;
  for await (const piece of stream) {
    load.take(piece.length);
    held += piece.length;
    yield piece;
    // Whoever asks for more has done with the lines before.
    const begun = piece.length - 1 - piece.lastIndexOf(LF);
    if (begun === piece.length) continue;
    load.give(held - begun);
    held = begun;
  }
}
