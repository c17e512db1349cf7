import type { DoorRequest } from "../codec/door.ts";
import type { Id } from "./ids.ts";

/** Where a map's elements hang: below a descriptor, or below what the operator calls the map. */
export type View =
  | { readonly session: Id; readonly fd: Id }
  /** An id, name:NAME or pinned:PATH. */
  | { readonly map: Id };

/** Fields of a JSON body. */
export type Body = Readonly<Record<string, unknown>>;

/** What a client sends for a recorded command, in the target's numbers: a request of the syscall door, or of a resource route. */
export type Call =
  | {
      readonly kind: "bpf";
      readonly session: Id;
      readonly body: Omit<DoorRequest, "tail"> & { readonly tail?: string };
    }
  /** By its resource route, which alone tells the map's id. */
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

/** Bytes in hex; flags as JSON has them. */
export interface ElementCall {
  readonly kind: "lookup" | "update" | "delete" | "next key" | "take";
  readonly view: View;
  /** null: the map has no keys, or the first key is asked for. */
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

/** `limit` null: all of the map, as of one moment. */
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

/** A descriptor's close at its session's end: the end does it. */
export interface Implied {
  readonly implied: true;
}
