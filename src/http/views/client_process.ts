import type { Socket } from "node:net";
import { Type } from "typebox";
import type { ClientProcess } from "../../syscall/command.ts";
import { CLOSED, oneOf } from "../schemas/fields.ts";
import { descriptorOf } from "../server/auth.ts";
import type { ClientProcesses } from "../server/ports.ts";
import { Problem } from "../server/problems.ts";

const PID_MAX = 2 ** 31 - 1;

/** What a client says to have a session live by a process. */
export const askedProcess = oneOf(
  [
    Type.Enum(["peer"], { type: "string", description: "The process that made the connection." }),
    Type.Object({ pid: Type.Integer({ minimum: 1, maximum: PID_MAX }) }, { $id: "ProcessByPid", ...CLOSED }),
  ],
  {
    $id: "AskedProcess",
    description:
      "The process that it lives by, instead of a TTL, on the unix socket alone: the client's own, or one by its pid, of the " +
      "same uid unless the client is root's.",
  },
);

export type AskedProcess = "peer" | { readonly pid: number };

/** The process that is meant. Throws the problem of one that cannot be had. `processes` null: this is no unix socket. */
export function findProcess(processes: ClientProcesses | null, connection: Socket, asked: AskedProcess): ClientProcess {
  const socket = descriptorOf(connection);
  if (processes === null || socket === undefined)
    throw new Problem("no-process", "a session is bound to a process over the unix socket alone: MAPLEDGER_SOCKET");
  const found = processes.find(socket, asked === "peer" ? null : asked.pid);
  if ("refused" in found) throw new Problem(found.refused, found.detail);
  return found;
}
