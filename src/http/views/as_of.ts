/**
 * Reads of an earlier moment: `?at=` on every route that reads. The past answers them instead of the engine. A
 * read-only service has no engine: its present is the moment after the log's last event (`present`), so all its reads
 * come here.
 */

import type { FastifyReply, FastifyRequest } from "fastify";
import type { Static } from "typebox";
import { mayUseSessionOf } from "../../access/caller.ts";
import type { MapScope } from "../../access/scopes.ts";
import { type Moment, readMoment } from "../../codec/moments.ts";
import type { Request } from "../../engine/request.ts";
import type { ReadName, Reads } from "../../engine/views.ts";
import { Type } from "../schemas/type.ts";
import { type Ran, run } from "../server/commands.ts";
import type { Flight } from "../server/flight.ts";
import type { EngineDoor } from "../server/ports.ts";
import { type Problem, refused } from "../server/problems.ts";
import { type SightParts, sightOf } from "./sight.ts";
import { referenceOf } from "./targets.ts";

/** The parameter `at` of all routes that read. */
export const at = Type.Optional(
  Type.String({
    description:
      "The state after the event with this seq, or after the last event stamped at or before this moment (RFC 3339). Such a " +
      "read leaves no event of its own; the answer's seq is the seq of the event that `at` names.",
    examples: ["17"],
  }),
);

export const AtQuery = Type.Object({ at });

/** A request whose query has `at`. */
type AtRequest = FastifyRequest & { readonly query: Static<typeof AtQuery> };

/** Further problems of these routes: the moment is not in the log yet, or is archived. */
export const AS_OF = ["no-such-event", "archived"] as const;

export interface StateParts extends SightParts {
  /** For a read-only service: the moment after the log's last event. Undefined: the service takes commands. */
  readonly present?: Moment;
}

/** The parts that answer a command of the present or of the past. */
export interface ReadParts extends StateParts {
  readonly engine: Pick<EngineDoor, "query" | "run">;
  readonly flight: Flight;
}

/** Answers questions about the state: the engine or the past. */
export interface Asked {
  query<Name extends ReadName>(name: Name, ask: Reads[Name]["ask"]): Promise<Reads[Name]["answer"]>;
  /** The problem of a map that the caller may not see; undefined: the caller sees all maps. */
  refusal?(scope: MapScope): Problem;
}

/** The state at the moment that a request names, or at present, limited to the maps that its caller may see. */
export function stateOf(parts: StateParts, request: AtRequest, reply: FastifyReply): Asked {
  const moment = momentOf(parts, request);
  return moment === null ? presentOf(parts, request) : pastOf(parts, request, moment, reply);
}

/** The state after a moment. If `reply` is given, each answer sets its header mapledger-seq to the moment's seq. */
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

/** The state at present, limited to the maps that the request's caller may see. */
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

/** Runs a command that only reads; for an earlier moment, returns the answer that it would have got then. */
export async function read(parts: ReadParts, request: AtRequest, reply: FastifyReply, command: Request): Promise<Ran> {
  const moment = momentOf(parts, request);
  if (moment === null) return run(parts, reply, command);
  await checkPast(parts, request, moment, command);
  const { seq, answer } = await parts.past.run(moment, command);
  parts.flight.answered(reply.raw, command, answer);
  reply.header("mapledger-seq", String(seq));
  return { seq, outcome: answer };
}

/** As read(), but throws the problem if the errno is not 0. */
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

/**
 * Throws the problem of a caller who may not read the command's map. The map is the one that the command names at the
 * moment; the caller's globs are compared with its present name and pins, or with the last ones if it was freed.
 */
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
  // The command itself is refused if the session is another caller's, so its descriptors are not read here.
  if (typeof opener === "string" || !mayUseSessionOf(opener.caller, caller)) return;
  const { answer: fds } = await parts.past.query(moment, "fds", { session });
  const file = typeof fds === "string" ? undefined : fds.find(({ fd }) => fd === target.fd);
  if (file !== undefined && file.map !== 0) await sight.check("read", file.map);
}

function momentOf({ present }: Pick<StateParts, "present">, { query: { at } }: AtRequest): Moment | null {
  return at === undefined ? (present ?? null) : readMoment(at, "at");
}
