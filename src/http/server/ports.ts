/** The interfaces of engine, past and machine that the HTTP service needs; other folders implement them. */

import type { Connection, EngineClient } from "../../engine/client.ts";
import type { Queries, QueryName } from "../../engine/queries.ts";
import type { Reply, Request } from "../../engine/request.ts";
import type { Past } from "../../past/past.ts";
import type { ClientProcess, Found, HeldObject, ObjectSpec } from "../../syscall/command.ts";

export interface EngineDoor {
  /** The number of commands that wait for their answers. */
  readonly waiting: number;
  /** The last event that is known to be in the log. */
  readonly seq: number;
  /** Calls the listener whenever the log has grown. Returns the function that ends this. */
  onGrowth(listener: () => void): () => void;
  /** `connection`: the client's. If it is closed before the command reaches the engine, the command is not run. */
  run(request: Request, connection?: Connection): Promise<Reply>;
  /** As in EngineClient. Absent: all commands are run by `run`. */
  readonly runElement?: EngineClient["runElement"];
  query<Name extends QueryName>(name: Name, ask: Queries[Name]["ask"]): Promise<Queries[Name]["answer"]>;
}

export type PastDoor = Pick<Past, "run" | "query" | "ask">;

/** Finds the client process of a connection, or a process that the client names. */
export interface ClientProcesses {
  /**
   * Finds the process that made a connection, or the one with a pid. `socket`: the connection's file descriptor in this
   * process. `refused`: the name of the problem.
   */
  find(
    socket: number,
    pid: number | null,
  ): ClientProcess | { readonly refused: "no-process" | "process-foreign" | "process-hidden"; readonly detail: string };
}

/** The kernel's own BTF: vmlinux, and modules by their names. */
export interface KernelBtf {
  /** In the order of names. */
  list(): Promise<readonly { readonly name: string; readonly bytes: number }[]>;
  /**
   * null: the kernel has no BTF of this name. `base`: of a module, vmlinux's, which the module's types and strings
   * continue.
   */
  read(name: string): Promise<{ readonly data: Buffer; readonly base: Buffer | null } | null>;
}

/** Opens objects of the machine, in a thread of its own. */
export interface ObjectOpener {
  /**
   * null: the machine has no such object, and the command gets one of the ledger's own. `later`: why the machine could
   * not be asked.
   */
  open(spec: ObjectSpec): Promise<OpenedObject | { readonly later: string } | null>;
  /** Closes an object that the engine has not taken over. */
  discard(opened: OpenedObject): void;
}

/** The facts that the machine reports of an object, and the descriptor that holds it. */
interface OpenedObject {
  readonly found: Found;
  readonly held?: HeldObject;
}
