import type { Command } from "../syscall/command.ts";
import type { Outcome } from "../syscall/outcome.ts";

/** From here on what a refused command was given is cut: larger than that is no key and value that anybody is refused in earnest. */
const INPUT_BYTES = 1024 * 1024;
/** What is kept of each. */
const KEPT_BYTES = 4096;

/**
 * A command as its event keeps it. Of one that was refused, and has done nothing, the beginning of a large key or value is kept, and `cut`
 * says how long it was: what is refused costs the log, and those who wait for it, no more than what is done.
 */
export function keptInput(command: Command, { errno, out }: Outcome): Command {
  if (errno === 0 || (out?.count ?? 0) > 0 || !("value" in command)) return command;
  const { value } = command;
  const key = "key" in command ? command.key : null;
  if ((key?.length ?? 0) + (value?.length ?? 0) <= INPUT_BYTES) return command;
  const cut = { ...lengthOf("key", key), ...lengthOf("value", value) };
  const kept = { value: beginning(value), ...("key" in command && { key: beginning(key) }) };
  return { ...command, ...kept, cut } as Command;
}

function lengthOf(name: "key" | "value", bytes: Buffer | null): { readonly [name: string]: number } {
  return bytes === null || bytes.length <= KEPT_BYTES ? {} : { [name]: bytes.length };
}

function beginning(bytes: Buffer | null): Buffer | null {
  return bytes === null ? null : bytes.subarray(0, KEPT_BYTES);
}
