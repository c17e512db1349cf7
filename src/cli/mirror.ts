import type { Command } from "commander";
import { addLeave } from "./leave.ts";
import { addDecide, addRecreate, addRepin } from "./map_order.ts";

export function addMirror(program: Command): void {
  const group = program.command("mirror").description("Commands for the kernel maps that follow the ledger's maps.");
  for (const add of [addLeave, addDecide, addRecreate, addRepin]) add(group);
}
