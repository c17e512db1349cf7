/** The part of a refused command's key and value that its event keeps. */

import type { Command } from "../syscall/command.ts";
import type { Outcome } from "../syscall/outcome.ts";

/**
 * A refused command whose key and value have more bytes than this together is cut. Commands that callers send by
 * mistake are smaller.
 */
const INPUT_BYTES = 1024 * 1024;
/** The bytes that are kept of a cut key, and of a cut value. */
const KEPT_BYTES = 4096;

/**
 * Cuts the key and value of a refused command that changed nothing and is larger than INPUT_BYTES; `cut` has their
 * lengths. Without this, refused commands could fill the log, and delay other commands, more than commands that
 * succeed.
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
