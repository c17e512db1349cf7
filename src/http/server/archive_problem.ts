import { Problem } from "./problems.ts";

/** What is answered to who asks for archived events, or for what the state was before the last of them. */
export function archivedProblem(oldestSeq: number): Problem {
  return new Problem("archived", `events up to ${oldestSeq - 1} are archived`, { oldest_seq: oldestSeq });
}
