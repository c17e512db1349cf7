/**
 * Notes about kernel maps, as events and as messages to operators: refusals, findings on the host, and maps whose
 * kernel map does not follow.
 */

import type { State } from "../syscall/state.ts";
import { mirrorFound, mirrorFreed, mirrorRefused, mirrorResync, SERVICE } from "./own_commands.ts";
import type { FormerKernelMap, Mirror, MirrorFinding, MirrorRefusal, MirrorStatus } from "./ports.ts";
import type { Request } from "./request.ts";

/** The number of maps in each state of MirrorStatus, and of maps that are on and known to differ. */
export type MirrorCounts = Readonly<Counting>;

/** The same while maps are counted. */
type Counting = Record<MirrorStatus["state"] | "unequal", number>;

export interface MirrorNotesParts {
  readonly mirror: Pick<Mirror, "off" | "status">;
  readonly state: Pick<State, "map">;
  /** Adds an event to the next batch. */
  readonly note: (request: Request) => void;
  /** Called with messages for the operator. */
  readonly notice: (message: string) => void;
  readonly report: (message: string, error: unknown) => void;
}

export class MirrorNotes {
  readonly #parts: MirrorNotesParts;
  /** Maps whose kernel map does not follow, with the state that operators were informed of. */
  readonly #said = new Map<number, string>();
  /** The kernel's refusals since the start. */
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

  /** Notes that the kernel map of a freed map still exists. */
  livesOn(former: FormerKernelMap): void {
    this.#parts.note(mirrorFreed(former));
  }

  /** Notes that a map and its kernel map are equal again. */
  resynced(map: number, operation: string): void {
    this.#parts.note(mirrorResync(map, SERVICE, operation));
  }

  /** Informs operators of a map whose kernel map does not follow, once for each state. */
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

  /** Reports a failure of the service or of the machine. */
  failed(doing: string, error: unknown): void {
    this.#parts.report(doing, error);
  }

  /** Call when a map was freed. */
  forget(id: number): void {
    this.#said.delete(id);
  }

  noCounts(): Counting {
    return { on: 0, failed: 0, lost: 0, waiting: 0, off: 0, unequal: 0 };
  }

  /** Counts a map by the status of its kernel map. */
  count(id: number, counts: Counting): void {
    const status = this.#parts.mirror.status(id);
    counts[status.state]++;
    if (status.state === "on" && status.equal === "no") counts.unequal++;
  }
}
