/**
 * Refuses pins and directories at paths that another program has taken. The machine is asked before the command is
 * decided. The command carries the refusal in `attr.found`, and fails with EEXIST at the place in the kernel's order
 * where the ledger's own EEXIST is.
 */

import type { Command, PathCommand, PinCommand } from "../syscall/command.ts";
import { newEntry } from "../syscall/pins.ts";
import type { State } from "../syscall/state.ts";
import type { ChangeList } from "./followers.ts";
import type { Mirror } from "./ports.ts";

/**
 * Asks the machine whether the path of a new pin or directory is free, and puts a refusal into the command. A path that
 * the same batch has vacated is not asked about: the mirror removes the ledger's own entry there first.
 */
export function withOccupied(
  state: State,
  mirror: Pick<Mirror, "occupied">,
  changes: ChangeList,
  command: Command,
): Command {
  const entry = newEntry(state, command);
  if (entry === null || changes.vacates(entry.pathname)) return command;
  const found = mirror.occupied(entry);
  if (found === null) return command;
  const { attr } = command as PinCommand | PathCommand;
  return { ...command, attr: { ...attr, found } } as Command;
}
