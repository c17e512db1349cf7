import { cmdName } from "../abi/service.ts";
import { type Action, cmdNumber, type Origin } from "../syscall/command.ts";
import { attrText, targetOf } from "./attr.ts";

/** From this id on there are no maps: `MADE` of engine/atomic_requests.ts is the map that the same plan creates. */
const ID_END = 0xffff_ffff;

/** The JSON of a command that has not been sent, with the same field names as the events of the API. */
export function commandJson(command: Action & Omit<Origin, "timeUs">): object {
  const { key = null, value = null } = command as { key?: Buffer | null; value?: Buffer | null };
  const target = targetOf(command);
  const { restore: _, peer: __, ...attr } = JSON.parse(attrText(command) ?? "{}");
  return {
    cmd: cmdName(cmdNumber(command)) ?? String(cmdNumber(command)),
    map: target?.by === "id" && target.id < ID_END ? target.id : null,
    key: key?.toString("hex") ?? null,
    value: value?.toString("hex") ?? null,
    attr: Object.keys(attr).length === 0 ? null : attr,
  };
}
