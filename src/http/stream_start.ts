import type { FastifyRequest } from "fastify";
import { Type } from "typebox";
import { InvalidInput } from "../codec/invalid.ts";

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

/** The seq behind which a stream begins; null: none is named. `last` is the log's: there is nothing behind it to have been received. */
export function startAsked(request: FastifyRequest, last: number): number | null {
  const { after } = request.query as { after?: number };
  const id = request.headers["last-event-id"];
  if (typeof id === "string" && id !== "")
    return checked(/^\d{1,16}$/.test(id) ? Number(id) : Number.NaN, "last-event-id", last);
  return after === undefined ? null : checked(after, "after", last);
}

/** The same; where none is named, behind all that there is. */
export function readStart(request: FastifyRequest, last: number): number {
  return startAsked(request, last) ?? last;
}

function checked(seq: number, where: string, last: number): number {
  if (seq <= last) return seq;
  throw new InvalidInput(
    where,
    Number.isNaN(seq) ? "a seq is needed" : `there is no event ${seq}: the log ends at ${last}`,
  );
}
