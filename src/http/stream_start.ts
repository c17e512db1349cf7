import type { FastifyRequest } from "fastify";
import { Type } from "typebox";
import { InvalidInput } from "../codec/invalid.ts";
import type { EventReader } from "../engine/events.ts";
import { archivedProblem } from "./archived.ts";

/** Where a stream may be asked to begin. */
export const FROM_FIELDS = {
  headers: Type.Object({
    "last-event-id": Type.Optional(
      Type.String({
        description: "The last id that was received: the stream goes on behind it. Comes before `after`.",
      }),
    ),
  }),
  query: {
    after: Type.Optional(
      Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description: "Begins behind this seq." }),
    ),
  },
} as const;

/** The seq behind which a stream begins; null: none is named. It is the log's: nothing else can have been received. */
export async function startAsked(request: FastifyRequest, events: EventReader): Promise<number | null> {
  const { after } = request.query as { after?: number };
  const id = request.headers["last-event-id"];
  if (typeof id === "string" && id !== "")
    return checked(/^\d{1,16}$/.test(id) ? Number(id) : Number.NaN, "last-event-id", events);
  return after === undefined ? null : checked(after, "after", events);
}

/** The same; where none is named, behind all that there is. */
export async function readStart(request: FastifyRequest, events: EventReader): Promise<number> {
  return (await startAsked(request, events)) ?? events.lastSeq();
}

async function checked(seq: number, where: string, events: EventReader): Promise<number> {
  const last = await events.lastSeq();
  const oldest = await events.oldestSeq();
  if (seq + 1 < oldest) throw archivedProblem(oldest);
  if (seq <= last) return seq;
  throw new InvalidInput(
    where,
    Number.isNaN(seq) ? "a seq is needed" : `there is no event ${seq}: the log ends at ${last}`,
  );
}
