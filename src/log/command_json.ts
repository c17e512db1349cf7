import { cmdName } from "../abi/service.ts";
import type { Action, Origin } from "../syscall/command.ts";
import { attrText, targetOf } from "./attr.ts";

/** Ids from here on stand for what is yet to be made. */
const ID_END = 0xffff_ffff;

/** A command that has not been sent, in the words in which events tell of those that were. */
export function commandJson(command: Action & Omit<Origin, "timeUs">): object {
  const { key = null, value = null } = command as { key?: Buffer | null; value?: Buffer | null };
  const target = targetOf(command);
  const { restore: _, peer: __, ...attr } = JSON.parse(attrText(command) ?? "{}");
  return {
    cmd: cmdName(command.cmd) ?? String(command.cmd),
    map: target?.by === "id" && target.id < ID_END ? target.id : null,
    key: key?.toString("hex") ?? null,
    value: value?.toString("hex") ?? null,
    attr: Object.keys(attr).length === 0 ? null : attr,
  };
}
