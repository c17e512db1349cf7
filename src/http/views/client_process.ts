/** Binding a session to a process: the request's field, and how the process is found. */

import type { Socket } from "node:net";
import type { ClientProcess } from "../../syscall/command.ts";
import { CLOSED, oneOf } from "../schemas/fields.ts";
import { Type } from "../schemas/type.ts";
import { descriptorOf } from "../server/auth.ts";
import type { ClientProcesses } from "../server/ports.ts";
import { Problem } from "../server/problems.ts";

const PID_MAX = 2 ** 31 - 1;

/** The field `process` of a request that opens a session. */
export const askedProcess = oneOf(
  [
    Type.Enum(["peer"], { type: "string", description: "The process that made the connection." }),
    Type.Object({ pid: Type.Integer({ minimum: 1, maximum: PID_MAX }) }, { $id: "ProcessByPid", ...CLOSED }),
  ],
  {
    $id: "AskedProcess",
    description:
      "The process whose end ends the session, instead of a TTL; on the unix socket only. It is the client's own process, " +
      "or another one by its pid: of the client's uid, unless the client is root.",
  },
);

export type AskedProcess = "peer" | { readonly pid: number };

/**
 * Finds the requested process. Throws the problem if it cannot. `processes` null: the listener is not a unix socket.
 */
export function findProcess(processes: ClientProcesses | null, connection: Socket, asked: AskedProcess): ClientProcess {
  const socket = descriptorOf(connection);
  if (processes === null || socket === undefined)
    throw new Problem("no-process", "a session can be bound to a process only over the unix socket (MAPLEDGER_SOCKET)");
  const found = processes.find(socket, asked === "peer" ? null : asked.pid);
  if ("refused" in found) throw new Problem(found.refused, found.detail);
  return found;
}
