/** Answers of the past about one map: who may see them, and what is wrong with the question. */
import type { FastifyRequest } from "fastify";
import type { MapScope } from "../../access/scopes.ts";
import type { MapReference } from "../../engine/map_reference.ts";
import { Problem } from "../server/problems.ts";
import { type SightParts, sightOf } from "./sight.ts";

type PastAnswer = null | string | { readonly map: number } | { readonly ambiguous: readonly number[] };

/** Throws the problem of a caller who may not see what was found, whatever was found of it. */
export async function checkSeen(
  parts: SightParts,
  request: FastifyRequest,
  scope: MapScope,
  reference: MapReference,
  answer: PastAnswer,
): Promise<void> {
  const sight = sightOf(parts, request);
  if (sight === null) return;
  // Of a map that was found, the answer tells only what is wrong with the question.
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

/** A string says what is wrong with the question. */
export function wellAsked<Answer>(answer: Answer | string): Answer {
  if (typeof answer === "string") throw new Problem("EINVAL", answer, { errno: "EINVAL" });
  return answer;
}
