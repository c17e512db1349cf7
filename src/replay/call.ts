import type { DoorRequest } from "../codec/door.ts";
import type { Id } from "./ids.ts";

/** The reference to a map in a route: a descriptor of a session, or the operator's reference. */
export type View =
  | { readonly session: Id; readonly fd: Id }
  /** An id, name:NAME or pinned:PATH. */
  | { readonly map: Id };

/** Fields of a JSON body. */
export type Body = Readonly<Record<string, unknown>>;

/**
 * The request that replays a recorded command, with the target's ids: one to the syscall door, or to a resource route.
 */
export type Call =
  | {
      readonly kind: "bpf";
      readonly session: Id;
      readonly body: Omit<DoorRequest, "tail"> & { readonly tail?: string };
    }
  /** Created by the resource route, whose response alone has the map's id. */
  | { readonly kind: "create"; readonly session: Id; readonly body: Body }
  | { readonly kind: "open session" | "mkdir" | "unlink" | "rmdir"; readonly body: Body }
  | { readonly kind: "renew" | "end session"; readonly session: Id; readonly body: Body }
  | { readonly kind: "open"; readonly session: Id; readonly body: Body }
  | { readonly kind: "close"; readonly session: Id; readonly fd: Id }
  | ElementCall
  | BatchCall
  | { readonly kind: "pin" | "freeze"; readonly view: View; readonly body: Body }
  | PageCall
  | MemoryCall;

/** Bytes are in hex; flags are a number, or decimal digits above 2^53. */
export interface ElementCall {
  readonly kind: "lookup" | "update" | "delete" | "next key" | "take";
  readonly view: View;
  /** null: the map has no keys, or NEXT_KEY asks for the first. */
  readonly key: string | null;
  readonly value: string | null;
  readonly flags: number | string;
}

export interface BatchCall {
  readonly kind: "batch";
  readonly name: "lookup" | "lookup_and_delete" | "update" | "delete";
  readonly view: View;
  readonly body: Body;
}

/** `limit` null: all elements of the map, as of one moment. */
export interface PageCall {
  readonly kind: "elements";
  readonly view: View;
  readonly after: string | null;
  readonly limit: number | null;
}

export interface MemoryCall {
  readonly kind: "read memory" | "write memory";
  readonly view: View;
  readonly offset: number;
  readonly length: number;
  readonly value: Buffer | null;
}

/** Why a recorded command is not sent. */
export interface LeftOut {
  readonly leftOut: string;
}

/**
 * A recorded close of a descriptor by the end of its session. It is not sent: the replayed end closes the descriptor.
 */
export interface Implied {
  readonly implied: true;
}
