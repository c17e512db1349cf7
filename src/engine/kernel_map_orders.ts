/**
 * Orders of operators about kernel maps. An order is recorded as an event before it is carried out. Only a repin is
 * carried out first, because its event has the path to which the object at the pin was moved.
 */

import { errnoName } from "../abi/errno.ts";
import { CMD } from "../abi/service.ts";
import type { KernelMapCommand, Who } from "../syscall/command.ts";
import type { State } from "../syscall/state.ts";
import type { Drift } from "./drift.ts";
import type { MirrorNotes } from "./mirror_notes.ts";
import type { MirrorSources } from "./mirror_sources.ts";
import { kernelMapOrder, mirrorDecide, mirrorRepin } from "./own_commands.ts";
import type { Mirror } from "./ports.ts";
import type { NotDone, Request, WholeReply } from "./request.ts";

export type Order = Who &
  (
    | {
        readonly what: "decide";
        readonly map: number;
        readonly take: "ledger" | "kernel";
        readonly keys: readonly string[] | null;
      }
    | { readonly what: "recreate" | "release"; readonly map: number }
    | { readonly what: "repin"; readonly map: number; readonly pathname: string }
    | { readonly what: "take over"; readonly directory: string }
  );

/** The order's event; or the reason why it was not carried out. */
export type Ordered =
  | {
      readonly seq: number;
      /** Only of a repin: the path to which the object at the pin was moved; null: there was none. */
      readonly aside?: string | null;
    }
  | { readonly refused: { readonly errno: string; readonly detail: string } }
  | NotDone;

export type OrderOf<What extends Order["what"]> = Extract<Order, { what: What }>;

export interface KernelMapOrdersParts {
  readonly mirror: Mirror;
  readonly state: State;
  readonly sources: MirrorSources;
  readonly drift: Drift;
  readonly notes: MirrorNotes;
  readonly runWhole: (requests: readonly Request[]) => WholeReply;
}

export class KernelMapOrders {
  readonly #parts: KernelMapOrdersParts;

  constructor(parts: KernelMapOrdersParts) {
    this.#parts = parts;
  }

  /** Makes the ledger's or the kernel's elements the right ones: all, or those with these keys. */
  async decide({ map, take, keys, ...who }: OrderOf<"decide">): Promise<Ordered> {
    const { state, mirror, drift } = this.#parts;
    const record = state.map(map);
    const status = mirror.status(map);
    if (record !== undefined && status.state !== "on" && !("kernelId" in status))
      return unsupported(`there is no kernel map to decide about: ${status.detail}`);
    if (record !== undefined && !mirror.traits(record).compared)
      return unsupported(
        "the kernel does not show the elements of a map of this type, so that nothing can be compared",
      );
    const cannot = record === undefined || take === "ledger" ? null : mirror.cannotImport(record);
    if (cannot !== null) return unsupported(`nothing can be imported: ${cannot}`);
    const done = this.record(mirrorDecide(map, who, take, keys));
    if (!("seq" in done)) return done;
    if (keys === null) await drift.settle(map, take === "kernel" ? "import" : "repair", null, "decided");
    else
      drift.decide(
        map,
        take,
        keys.map((key) => Buffer.from(key, "hex")),
      );
    return done;
  }

  /** Makes another kernel map in place of a map's present one. */
  recreate(order: OrderOf<"recreate" | "release">): Ordered {
    const { mirror, sources, drift, notes } = this.#parts;
    return this.#onKernelMap(order, CMD.MIRROR_RECREATE, (map) => {
      const source = sources.of(map);
      if (source !== null) notes.refused(mirror.recreate(source));
      drift.settleOuter(map, sources.all());
    });
  }

  /** Gives up an adopted map's kernel map, which stays as it is. */
  release(order: OrderOf<"recreate" | "release">): Ordered {
    const { mirror, notes } = this.#parts;
    return this.#onKernelMap(order, CMD.MIRROR_RELEASE, (map) => notes.refused(mirror.letGo(map)));
  }

  /** Puts a map's pin back at a path where another object is pinned, which is moved to another path. */
  repin({ map, pathname, ...who }: OrderOf<"repin">): Ordered {
    const { mirror, state } = this.#parts;
    const record = state.map(map);
    if (record === undefined || state.bpffs.pinAt(pathname) !== map)
      return { refused: { errno: "ENOENT", detail: `map ${map} is not pinned at ${pathname}` } };
    const done = mirror.repin(record, pathname);
    if (!("aside" in done)) return { refused: { errno: done.errno, detail: done.detail } };
    const recorded = this.record(mirrorRepin(map, who, pathname, done.aside));
    return "seq" in recorded ? { ...recorded, aside: done.aside } : recorded;
  }

  /** Records an order as an event. */
  record(request: Request): Ordered {
    const done = this.#parts.runWhole([request]);
    if ("replies" in done) return { seq: (done.replies[0] as { seq: number }).seq };
    if ("refused" in done) {
      const { errno, detail } = done.refused;
      return { refused: { errno: errnoName(errno), detail: detail ?? errnoName(errno) } };
    }
    return "failure" in done ? done : { refused: { errno: "EAGAIN", detail: "the map has changed meanwhile" } };
  }

  #onKernelMap(
    { map, ...who }: { readonly map: number } & Who,
    cmd: KernelMapCommand["cmd"],
    act: (map: number) => void,
  ): Ordered {
    const status = this.#parts.mirror.status(map);
    const was = "kernelId" in status ? (status.kernelId ?? null) : null;
    const done = this.record(kernelMapOrder(cmd, map, who, was));
    if (!("seq" in done)) return done;
    act(map);
    this.#parts.notes.say(map);
    return done;
  }
}

export function unsupported(detail: string): { readonly refused: { readonly errno: string; readonly detail: string } } {
  return { refused: { errno: "EOPNOTSUPP", detail } };
}
