import type { EventRow } from "../log/event.ts";
import { effectsIn } from "../log/event_subjects.ts";
import { commandFacts } from "../syscall/command_facts.ts";

/**
 * The size of the keys of a batch, as its event says: where the creation of its map is not known. undefined: the event
 * does not say it.
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
  // A long answer is cut behind whole keys.
  const bytes = effects?.answer?.key?.bytes ?? key.length;
  return Number.isSafeInteger(count) && count >= 1 && bytes % count === 0 ? bytes / count : undefined;
}
