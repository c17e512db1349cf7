/** Checks of the past's answers about one map: whether the caller may see them, and whether the question was valid. */

import type { FastifyRequest } from "fastify";
import type { MapScope } from "../../access/scopes.ts";
import type { MapReference } from "../../engine/map_reference.ts";
import { Problem } from "../server/problems.ts";
import { type SightParts, sightOf } from "./sight.ts";

type PastAnswer = null | string | { readonly map: number } | { readonly ambiguous: readonly number[] };

/** Throws the problem if the caller may not see the map or maps of an answer, even if the answer is an error. */
export async function checkSeen(
  parts: SightParts,
  request: FastifyRequest,
  scope: MapScope,
  reference: MapReference,
  answer: PastAnswer,
): Promise<void> {
  const sight = sightOf(parts, request);
  if (sight === null) return;
  // A text says why the question is not valid, and does not name the map: the past is asked which map it was.
  const maps =
    typeof answer === "string"
      ? idsOf(await parts.past.ask("ever", { reference }))
      : answer === null
        ? []
        : idsOf(answer);
  await sight.checkReference(scope, reference, maps);
}

function idsOf(answer: Exclude<PastAnswer, string>): readonly number[] {
  if (answer === null) return [];
  return "ambiguous" in answer ? answer.ambiguous : [answer.map];
}

/** The answer. Throws the problem if it is a text, which says why the question is not valid. */
export function wellAsked<Answer>(answer: Answer | string): Answer {
  if (typeof answer === "string") throw new Problem("EINVAL", answer, { errno: "EINVAL" });
  return answer;
}
