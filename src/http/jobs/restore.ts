/**
 * Restores a map: the past plans the commands, and the engine runs them as one if the map has not changed meanwhile. If
 * it has, they are planned again, a few times.
 */

import type { FastifyRequest } from "fastify";
import { CMD } from "../../abi/service.ts";
import type { Moment } from "../../codec/moments.ts";
import type { Settings } from "../../config.ts";
import { MADE } from "../../engine/atomic_requests.ts";
import { readRequests } from "../../engine/frames.ts";
import type { Request } from "../../engine/request.ts";
import { commandJson } from "../../log/command_json.ts";
import type { RestoreCounts } from "../../past/restore.ts";
import type { Outcome } from "../../syscall/outcome.ts";
import { notDone } from "../server/access.ts";
import { Problem, refused } from "../server/problems.ts";
import { oneMap } from "../views/lookups.ts";
import { checkSeen, wellAsked } from "../views/past_answers.ts";
import type { SightParts } from "../views/sight.ts";
import { readReference } from "../views/targets.ts";

/** The number of plans after which a restore gives up, because the map keeps changing. */
const TRIES = 5;
/** The most bytes of keys and values in the commands that an answer shows. */
const COMMANDS_BYTES_MAX = 4 * 1024 * 1024;
const KIB = 1024;

export interface RestoreParts extends SightParts {
  readonly settings: Pick<Settings, "restoreElementsMax">;
}

/**
 * `session`, if named, gets a descriptor of a map that is created again. `dry`: nothing is run. `shown`: the most
 * commands that the answer shows.
 */
export interface RestoreOrder {
  readonly map: string;
  readonly at: Moment;
  readonly reason: string;
  readonly session: number | null;
  readonly dry: boolean;
  readonly shown: number;
}

/** Restores a map in the name of the request's caller. Throws a Problem if the map cannot be restored. */
export async function restore(parts: RestoreParts, request: FastifyRequest, order: RestoreOrder): Promise<object> {
  for (let tries = 1; ; tries++) {
    const { requests, ...plan } = await plannedRestore(parts, request, order);
    const { map, frames, length, now, counts, answer } = plan;
    if (!order.dry) checkSize(counts, length, parts.settings.restoreElementsMax);
    if (order.dry || requests.length === 0) return { ...answer, first_seq: null, last_seq: null, created: null };
    const { peer, limits } = request;
    const asking = { peer, ...(limits !== undefined && { limits: limits.id }) };
    const done = await parts.engine.query("whole", { frames, length, map, seq: now, ...asking });
    if ("replies" in done) return { ...answer, ...eventsOf(done.replies), created: createdBy(requests, done.replies) };
    if ("failure" in done) throw notDone(parts, request, request, done);
    if ("refused" in done) throw refused(done, done.refused);
    if (tries === TRIES) throw new Problem("busy", `map ${map} is being changed: nothing was restored`);
  }
}

/** Plans the commands from the present state. `answer`: the fields that do not depend on how the commands run. */
async function plannedRestore(parts: RestoreParts, request: FastifyRequest, order: RestoreOrder) {
  const { at, reason, session, dry, shown } = order;
  const reference = readReference(order.map, "map");
  const planned = await parts.past.ask("restore", { reference, at, reason, caller: request.caller, session });
  await checkSeen(parts, request, "write", reference, planned);
  const { frames, length, now, counts, ...about } = oneMap(wellAsked(planned), order.map);
  const requests = readRequests(frames, length);
  const commands = firstOf(requests, shown).map((one) => commandJson(one));
  const answer = { ...about, dry_run: dry, reason, ...counts, commands, command_count: requests.length };
  return { map: about.map, frames, length, now, counts, requests, answer };
}

/** Refuses a large restore: it runs as one, and all other commands wait for it. `bytes`: the size of its commands. */
function checkSize({ added, changed, removed }: RestoreCounts, bytes: number, most: number): void {
  const elements = added + changed + removed;
  if (elements <= most && bytes <= most * KIB) return;
  const allowed = `${most} elements, and a KiB for each, that MAPLEDGER_RESTORE_MAX allows`;
  const detail = `${elements} elements are to be restored by commands of ${bytes} bytes: more than the ${allowed}`;
  throw new Problem("E2BIG", detail, { errno: "E2BIG" });
}

/** The first commands: at most `most`, and at most COMMANDS_BYTES_MAX bytes. */
function firstOf(requests: readonly Request[], most: number): readonly Request[] {
  let bytes = 0;
  const end = requests.findIndex((request, at) => {
    const { key, value } = request as { key?: Buffer | null; value?: Buffer | null };
    bytes += (key?.length ?? 0) + (value?.length ?? 0);
    return at === most || bytes > COMMANDS_BYTES_MAX;
  });
  return end === -1 ? requests : requests.slice(0, end);
}

function eventsOf(replies: readonly { readonly seq: number }[]): object {
  return { first_seq: replies[0]?.seq ?? null, last_seq: replies.at(-1)?.seq ?? null };
}

/** The map that the restore created, with the named session's descriptor of it; null: it created none. */
function createdBy(requests: readonly Request[], replies: readonly { readonly outcome: Outcome }[]): object | null {
  const made = replies.findLast((_, at) => requests[at]?.cmd === CMD.BPF_MAP_CREATE);
  if (made === undefined) return null;
  const opened = replies.find(
    (_, at) => requests[at]?.cmd === CMD.BPF_MAP_GET_FD_BY_ID && requests[at].session !== MADE,
  );
  return { map_id: made.outcome.out?.map_id, fd: opened?.outcome.ret ?? null };
}
