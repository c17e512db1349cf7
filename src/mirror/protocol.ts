/** The messages of the mirror's threads: one makes kernel maps, the other opens real objects. */
import type { MirrorRefusal } from "../engine/ports.ts";
import { type Nothing, Protocol, type ThreadOrders } from "../supervisor/protocol.ts";
import type { Found, HeldObject, ObjectSpec } from "../syscall/command.ts";
import type { Created, Wanted } from "./make.ts";
import type { Cpus } from "./map_types.ts";

export interface MakerProtocol {
  readonly data: { readonly cpus: Cpus };
  readonly questions: { make: { ask: { readonly wanted: Wanted }; answer: Created | MirrorRefusal } };
  readonly inquiries: Nothing;
  readonly orders: ThreadOrders;
  readonly news: Nothing;
}

/** Kernel maps that it makes stay open if the thread ends. */
export const MAP_MAKER = new Protocol<MakerProtocol>({
  thread: "map_maker",
  doing: "making a kernel map",
  keepsDescriptors: true,
});

/** `later`: the reason why the machine cannot be asked at present. */
export type OpenAnswer = { readonly found: Found; readonly held?: HeldObject } | { readonly later: string };

export interface OpenerProtocol {
  readonly data: { readonly data: string; readonly openRoots: string };
  readonly questions: { open: { ask: { readonly spec: ObjectSpec }; answer: OpenAnswer } };
  readonly inquiries: Nothing;
  readonly orders: ThreadOrders;
  readonly news: Nothing;
}

/** The engine takes its descriptors, which stay open if the thread ends. */
export const OBJECT_OPENER = new Protocol<OpenerProtocol>({
  thread: "object_opener",
  doing: "opening an object",
  keepsDescriptors: true,
});
