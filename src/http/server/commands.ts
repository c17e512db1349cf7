/** Runs the commands of a route: adds the caller and the peer, and throws the problem if a command fails. */

import type { FastifyReply } from "fastify";
import type { Request } from "../../engine/request.ts";
import type { Target } from "../../syscall/command.ts";
import type { Outcome } from "../../syscall/outcome.ts";
import { notDone, type RefusalParts } from "./access.ts";
import type { Flight } from "./flight.ts";
import type { EngineDoor } from "./ports.ts";
import { refused } from "./problems.ts";

export interface CommandParts extends RefusalParts {
  readonly engine: Pick<EngineDoor, "run">;
  readonly flight: Flight;
}

/** The session and the caller of a command, and the map that it names. */
export interface CommandOrigin {
  readonly session: number;
  readonly caller: string;
  readonly target: Target;
}

/** The outcome of a command, and the seq of its event. */
export interface Ran {
  readonly seq: number;
  readonly outcome: Outcome;
  /** Only of a batch that came as octets: the number of elements that it had. */
  readonly given?: number;
}

/** Runs a command, and returns its outcome, whatever the errno. Throws the problem if the command has no outcome. */
export async function run(parts: CommandParts, reply: FastifyReply, request: Request): Promise<Ran> {
  const { raw, caller, peer, limits } = reply.request;
  const asked = limits === undefined ? { ...request, peer } : { ...request, peer, limits: limits.id };
  const answer = await parts.engine.run(asked, raw.socket);
  if ("failure" in answer) throw notDone(parts, { caller, peer, limits }, raw, answer);
  parts.flight.answered(reply.raw, request, answer.outcome);
  reply.header("mapledger-seq", String(answer.seq));
  return answer;
}

/** Runs a command. Throws the problem if its errno is not 0, or if it has no outcome. */
export async function must(parts: CommandParts, reply: FastifyReply, request: Request): Promise<Ran> {
  const ran = await run(parts, reply, request);
  if (ran.outcome.errno !== 0) throw refused(request, ran.outcome, ran.seq);
  return ran;
}
