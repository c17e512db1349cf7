/**
 * Reads of an earlier moment: `?at=` on every route that reads. The past answers them instead of the engine. A service
 * that only reads has no engine: its present is the moment right after the log's last event (`present`), so all its
 * reads come here.
 */

import type { FastifyReply, FastifyRequest } from "fastify";
import { type Static, Type } from "typebox";
import { mayUseSessionOf } from "../../access/caller.ts";
import type { MapScope } from "../../access/scopes.ts";
import { type Moment, readMoment } from "../../codec/moments.ts";
import type { Request } from "../../engine/request.ts";
import type { ReadName, Reads } from "../../engine/views.ts";
import { type Ran, run } from "../server/commands.ts";
import type { Flight } from "../server/flight.ts";
import type { EngineDoor } from "../server/ports.ts";
import { type Problem, refused } from "../server/problems.ts";
import { type SightParts, sightOf } from "./sight.ts";
import { referenceOf } from "./targets.ts";

/** In the query of every route that reads. */
export const at = Type.Optional(
  Type.String({
    description:
      "As of right after the event with this seq, or after the last event stamped at or before this moment (RFC 3339). Such reads " +
      "leave no event; the answer's seq is that event's.",
    examples: ["17"],
  }),
);

export const AtQuery = Type.Object({ at });

/** A request whose query has `at`. */
type AtRequest = FastifyRequest & { readonly query: Static<typeof AtQuery> };

/** What such a route may answer, besides: the moment is not there yet, or not any more. */
export const AS_OF = ["no-such-event", "archived"] as const;

export interface StateParts extends SightParts {
  /** The log's last event, of a service that only reads: all is as it was right after it. Left out: it takes commands. */
  readonly present?: Moment;
}

/** What runs a command as of now, or asks the past. */
export interface ReadParts extends StateParts {
  readonly engine: Pick<EngineDoor, "query" | "run">;
  readonly flight: Flight;
}

/** Who is asked about the state: the engine, or the past. */
export interface Asked {
  query<Name extends ReadName>(name: Name, ask: Reads[Name]["ask"]): Promise<Reads[Name]["answer"]>;
  /** Of what the caller may not see; left out: he sees everything. */
  refusal?(scope: MapScope): Problem;
}

/** The state that a request asks about, as its caller sees it. */
export function stateOf(parts: StateParts, request: AtRequest, reply: FastifyReply): Asked {
  const moment = momentOf(parts, request);
  return moment === null ? presentOf(parts, request) : pastOf(parts, request, moment, reply);
}

/** The state right after a moment, which the answer says. */
function pastOf(parts: StateParts, request: FastifyRequest, moment: Moment, reply: FastifyReply | null): Asked {
  const sight = sightOf(parts, request);
  return {
    async query(name, ask) {
      const { seq, answer } = await (sight === null
        ? parts.past.query(moment, name, ask)
        : sight.ask(moment, name, ask));
      reply?.header("mapledger-seq", String(seq));
      return answer;
    },
    ...(sight !== null && { refusal: (scope: MapScope) => sight.refusal(scope) }),
  };
}

/** The state as it is, as a request's caller sees it. */
export function presentOf(parts: StateParts, request: FastifyRequest): Asked {
  const { engine, present } = parts;
  if (present !== undefined) return pastOf(parts, request, present, null);
  const sight = sightOf(parts, request);
  if (sight === null) return engine;
  const limits = request.limits?.id as number;
  return {
    query: (name, ask) => engine.query(name, { ...ask, limits }),
    refusal: (scope) => sight.refusal(scope),
  };
}

/** Runs a command that only reads; or says what it would have been answered. */
export async function read(parts: ReadParts, request: AtRequest, reply: FastifyReply, command: Request): Promise<Ran> {
  const moment = momentOf(parts, request);
  if (moment === null) return run(parts, reply, command);
  await checkPast(parts, request, moment, command);
  const { seq, answer } = await parts.past.run(moment, command);
  parts.flight.answered(reply.raw, command, answer);
  reply.header("mapledger-seq", String(seq));
  return { seq, outcome: answer };
}

/** The same for one that must succeed. Throws the problem of its errno. */
export async function mustRead(
  parts: ReadParts,
  request: AtRequest,
  reply: FastifyReply,
  command: Request,
): Promise<Ran> {
  const ran = await read(parts, request, reply, command);
  if (ran.outcome.errno !== 0) throw refused(command, ran.outcome, ran.seq);
  return ran;
}

/** Which map a command meant then is looked up; whether its caller may read it is told by what the map is now. */
async function checkPast(parts: StateParts, request: FastifyRequest, moment: Moment, command: Request): Promise<void> {
  const sight = sightOf(parts, request);
  const target = "target" in command ? command.target : null;
  if (sight === null || target === null) return;
  if (target.by !== "fd") {
    const reference = referenceOf(target);
    await sight.ask(moment, "map", { reference });
    return;
  }
  const { session, caller } = command;
  const { answer: opener } = await parts.past.query(moment, "session", { id: session });
  // Of another's session nothing is looked at: the command itself is refused.
  if (typeof opener === "string" || !mayUseSessionOf(opener.caller, caller)) return;
  const { answer: fds } = await parts.past.query(moment, "fds", { session });
  const file = typeof fds === "string" ? undefined : fds.find(({ fd }) => fd === target.fd);
  if (file !== undefined && file.map !== 0) await sight.check("read", file.map);
}

function momentOf({ present }: Pick<StateParts, "present">, { query: { at } }: AtRequest): Moment | null {
  return at === undefined ? (present ?? null) : readMoment(at, "at");
}
