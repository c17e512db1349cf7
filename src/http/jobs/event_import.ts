/**
 * Imports an export: sends its commands to the service itself, in the name of the request's caller, while the export's
 * lines still arrive.
 */

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

/** The most bytes of an imported line. It is parsed in pieces; all other work on its event delays other requests. */
export const LINE_BYTES_MAX = 8 * 1024 * 1024;
const LF = 10;

export interface ImportParts extends OwnParts {
  readonly jobs: Pick<Jobs, "beginImport">;
  readonly flight: Flight;
  readonly turns: Turns;
}

/**
 * Imports the export in `lines`. Throws a Problem if the caller has too many jobs, if a line cannot be read, or if the
 * service cannot go on.
 */
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

/** The Problem of an import that a bad line or the service ended, with how far it came. Other errors are unchanged. */
function brokenOff(error: unknown, lastSeq: number): unknown {
  const far = `the commands before have run, up to event ${lastSeq}`;
  if (error instanceof BadLine) return new Problem("invalid-input", `${error.message}; ${far}`, { where: error.where });
  if (error instanceof TargetFailed) return new Problem("unavailable", `${error.message}; ${far}`);
  return error;
}

/** Passes the pieces of a stream on. `load` counts the current piece, and the beginning of an unfinished line. */
async function* counted(stream: AsyncIterable<Buffer>, load: Load): AsyncIterable<Buffer> {
  let held = 0;
  for await (const piece of stream) {
    load.take(piece.length);
    held += piece.length;
    yield piece;
    // The reader asks for more, so it has read all complete lines.
    const begun = piece.length - 1 - piece.lastIndexOf(LF);
    if (begun === piece.length) continue;
    load.give(held - begun);
    held = begun;
  }
}
