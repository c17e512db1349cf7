import type { EventRow } from "../log/event.ts";
import { effectsIn } from "../log/event_subjects.ts";
import { commandFacts } from "../syscall/command_facts.ts";

/**
 * The size of a batch's keys, computed from its event alone, for maps whose creation is not known. undefined: the event
 * does not have enough for that.
 */
export function keyBytesIn({
  cmd,
  key,
  attr,
  out,
}: Pick<EventRow, "cmd" | "key" | "attr" | "out">): number | undefined {
  if (key === null) return undefined;
  const answers = commandFacts(cmd)?.answers === "elements";
  const effects = answers ? effectsIn({ out }) : null;
  const count = answers ? effects?.count : JSON.parse(attr ?? "{}").count;
  // A long answer is cut after a whole key.
  const bytes = effects?.answer?.key?.bytes ?? key.length;
  return Number.isSafeInteger(count) && count >= 1 && bytes % count === 0 ? bytes / count : undefined;
}
