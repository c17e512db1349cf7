/** Events and messages to operators about kernel maps: refusals, and maps whose kernel map does not follow. */

import type { State } from "../syscall/state.ts";
import { mirrorFound, mirrorFreed, mirrorRefused, mirrorResync, SERVICE } from "./own_commands.ts";
import type { FormerKernelMap, Mirror, MirrorFinding, MirrorRefusal, MirrorStatus } from "./ports.ts";
import type { Request } from "./request.ts";

/** How many maps are in each state of MirrorStatus; of those that are on, how many are known to differ. */
export type MirrorCounts = Readonly<Counting>;

/** The same while maps are counted. */
export type Counting = Record<MirrorStatus["state"] | "unequal", number>;

export interface MirrorNotesParts {
  readonly mirror: Pick<Mirror, "off" | "status">;
  readonly state: Pick<State, "map">;
  /** Becomes an event of the next batch. */
  readonly note: (request: Request) => void;
  /** For operators. */
  readonly notice: (message: string) => void;
  readonly report: (message: string, error: unknown) => void;
}

export class MirrorNotes {
  readonly #parts: MirrorNotesParts;
  /** Maps whose kernel map does not follow, and the state in which operators have been told of them. */
  readonly #said = new Map<number, string>();
  /** Refusals of the kernel's since the start. */
  refusalCount = 0;

  constructor(parts: MirrorNotesParts) {
    this.#parts = parts;
  }

  refused(refusals: readonly MirrorRefusal[]): void {
    for (const refusal of refusals) {
      this.#parts.note(mirrorRefused(refusal));
      this.say(refusal.mapId);
    }
    this.refusalCount += refusals.length;
  }

  found(found: readonly MirrorFinding[]): void {
    for (const finding of found) {
      this.#parts.note(mirrorFound(finding));
      this.say(finding.mapId);
    }
  }

  /** A freed map's kernel map lives on. */
  livesOn(former: FormerKernelMap): void {
    this.#parts.note(mirrorFreed(former));
  }

  /** A map and its kernel map are equal again. */
  resynced(map: number, operation: string): void {
    this.#parts.note(mirrorResync(map, SERVICE, operation));
  }

  /** Operators are told of a map whose kernel map does not follow, once while it stands so. */
  say(id: number): void {
    const { mirror, state, notice } = this.#parts;
    const map = state.map(id);
    if (map === undefined || mirror.off !== null) return;
    const status = mirror.status(id);
    if (this.#said.get(id) === status.state) return;
    if (status.state === "on") this.#said.delete(id);
    else {
      this.#said.set(id, status.state);
      notice(
        `the kernel map of map ${id} (${map.name}) does not follow it, its state is ${status.state}: ${status.detail}`,
      );
    }
  }

  /** For whoever mends the service or the machine. */
  failed(doing: string, error: unknown): void {
    this.#parts.report(doing, error);
  }

  /** The map is gone. */
  forget(id: number): void {
    this.#said.delete(id);
  }

  noCounts(): Counting {
    return { on: 0, failed: 0, lost: 0, waiting: 0, off: 0, unequal: 0 };
  }

  /** Counts how a map stands with its kernel map. */
  count(id: number, counts: Counting): void {
    const status = this.#parts.mirror.status(id);
    counts[status.state]++;
    if (status.state === "on" && status.equal === "no") counts.unequal++;
  }
}
