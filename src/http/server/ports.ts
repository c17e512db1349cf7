/** What the service over HTTP needs of the rest of mapledger: others implement it. */
import type { Connection } from "../../engine/client.ts";
import type { Queries, QueryName } from "../../engine/queries.ts";
import type { Reply, Request } from "../../engine/request.ts";
import type { Past } from "../../past/past.ts";
import type { ClientProcess, Found, HeldObject, ObjectSpec } from "../../syscall/command.ts";

/** The engine as the routes see it. */
export interface EngineDoor {
  /** Commands that are waiting for their answer. */
  readonly waiting: number;
  /** Of the last event that is known to be in the log. */
  readonly seq: number;
  /** Calls the listener whenever the log has grown, until the function that is answered is called. */
  onGrowth(listener: () => void): () => void;
  /** `connection`: by which it came; what has not reached the engine when that is closed is not run. */
  run(request: Request, connection?: Connection): Promise<Reply>;
  query<Name extends QueryName>(name: Name, ask: Queries[Name]["ask"]): Promise<Queries[Name]["answer"]>;
}

/** The past as the routes see it. */
export type PastDoor = Pick<Past, "run" | "query" | "ask">;

/** Which processes clients are, or may name. */
export interface ClientProcesses {
  /**
   * The process that made a connection, by the connection's descriptor in this process; or another by its pid. If it is refused: the
   * problem's name and detail.
   */
  find(
    socket: number,
    pid: number | null,
  ): ClientProcess | { readonly refused: "no-process" | "process-foreign" | "process-hidden"; readonly detail: string };
}

/** Opens real objects, in a thread of its own. */
export interface ObjectOpener {
  /** null: an object of the ledger's own, which the machine has none of; `later`: why it could not be asked at present. */
  open(spec: ObjectSpec): Promise<OpenedObject | { readonly later: string } | null>;
  /** Closes one that the engine has not taken. */
  discard(opened: OpenedObject): void;
}

/** What the machine says of an object, and what holds it. */
interface OpenedObject {
  readonly found: Found;
  readonly held?: HeldObject;
}
