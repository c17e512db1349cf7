import type { FastifyReply, FastifyRequest } from "fastify";
import { Type } from "typebox";
import { type Moment, readMoment } from "../codec/moments.ts";
import type { Request } from "../engine/engine.ts";
import type { ReadName, Reads } from "../engine/queries.ts";
import { type Parts, type Ran, run } from "./parts.ts";
import { refused } from "./problems.ts";

// Reads of an earlier moment: `?at=` beside what a route takes otherwise.

/** In the query of every route that reads. */
export const at = Type.Optional(
  Type.String({
    description:
      "As of right after the event with this seq, or after the last event at or before this moment (RFC 3339). Such reads " +
      "leave no event; the answer's seq is that event's.",
    examples: ["17"],
  }),
);

export const AtQuery = Type.Object({ at });

/** What such a route may answer, besides: the moment is not there yet, or not any more. */
export const AS_OF = ["no-such-event", "archived"] as const;

/** Who is asked about the state: the engine, or the past. */
export interface Asked {
  query<Name extends ReadName>(name: Name, ask: Reads[Name]["ask"]): Promise<Reads[Name]["answer"]>;
}

/** The state that a request asks about. */
export function stateOf({ engine, past }: Parts, request: FastifyRequest, reply: FastifyReply): Asked {
  const moment = momentOf(request);
  if (moment === null) return engine;
  return {
    async query(name, ask) {
      const { seq, answer } = await past.query(moment, name, ask);
      reply.header("mapledger-seq", String(seq));
      return answer;
    },
  };
}

/** Runs a command that only reads; or says what it would have been answered. */
export async function read(parts: Parts, request: FastifyRequest, reply: FastifyReply, command: Request): Promise<Ran> {
  const moment = momentOf(request);
  if (moment === null) return run(parts, reply, command);
  const { seq, answer } = await parts.past.run(moment, command);
  reply.header("mapledger-seq", String(seq));
  return { seq, outcome: answer };
}

/** The same for one that must succeed. Throws the problem of its errno. */
export async function mustRead(
  parts: Parts,
  request: FastifyRequest,
  reply: FastifyReply,
  command: Request,
): Promise<Ran> {
  const ran = await read(parts, request, reply, command);
  if (ran.outcome.errno !== 0) throw refused(command, ran.outcome, ran.seq);
  return ran;
}

function momentOf(request: FastifyRequest): Moment | null {
  const { at } = request.query as { at?: string };
  return at === undefined ? null : readMoment(at, "at");
}
