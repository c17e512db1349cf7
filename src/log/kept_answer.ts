/**
 * The part of an answer that its event keeps: at most 4 KiB. Of a longer answer the event also has the length and
 * SHA-256, with which a replay compares. The state as of that seq has the rest; for commands that delete elements, the
 * state before it. So a small request with a large answer costs the log no more than one with a small answer. A page of
 * elements (MAP_ELEMENTS) is not kept at all: it is the state at its seq. Of BTF that BPF_OBJ_GET_INFO_BY_FD answers
 * beside the info, the beginning is kept in the place of a key.
 */

import { hash } from "node:crypto";
import { CMD } from "../abi/service.ts";
import { commandFacts } from "../syscall/command_facts.ts";
import type { CutAnswer, Outcome } from "../syscall/outcome.ts";

export const ANSWER_BYTES = 4096;

/**
 * Cuts an outcome's answer to ANSWER_BYTES. Of a batch the first elements that fit are kept, of a single value or key
 * its beginning; `out.answer` has length and SHA-256 of the whole. The keys that a LOOKUP_AND_DELETE_BATCH deleted are
 * all kept: replays need them.
 *
 *   100 keys of 4 bytes, values of 100 bytes -> 39 keys, 39 values, {"key": {"bytes": 400, ...}, "value": {"bytes": 10000, ...}}
 */
export function keptAnswer(cmd: number, outcome: Outcome): Outcome {
  const { key, value, out } = outcome;
  const answers = commandFacts(cmd)?.answers ?? null;
  if (value === null || answers === null || answers === "page" || out?.answer !== undefined) return outcome;
  const isCut = cmd === CMD.BPF_MAP_LOOKUP_BATCH || answers === "info" ? key : null;
  if ((isCut?.length ?? 0) + value.length <= ANSWER_BYTES) return outcome;
  const elements = answers === "elements" ? (out?.count ?? 0) : 0;
  const answer: CutAnswer = { ...(isCut !== null && { key: cutOf(isCut) }), value: cutOf(value) };
  if (elements === 0 && isCut !== null)
    return {
      ...outcome,
      key: isCut.subarray(0, ANSWER_BYTES - value.length),
      out: { ...out, answer: { key: cutOf(isCut) } },
    };
  const kept = keptElements(((isCut?.length ?? 0) + value.length) / elements);
  return {
    ...outcome,
    key: isCut === null ? key : isCut.subarray(0, (isCut.length / elements) * kept),
    value: elements === 0 ? value.subarray(0, ANSWER_BYTES) : value.subarray(0, (value.length / elements) * kept),
    out: { ...out, answer },
  };
}

function keptElements(elementBytes: number): number {
  return Math.floor(ANSWER_BYTES / elementBytes);
}

function cutOf(bytes: Buffer): { readonly bytes: number; readonly sha256: string } {
  return { bytes: bytes.length, sha256: hash("sha256", bytes) };
}
