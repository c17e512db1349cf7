/**
 * Changes of the machine become commands: an object that ended (a process that exited, a cgroup that was removed) is
 * OBJECT_END, network interfaces that came or went are INTERFACES. So a replay needs no machine.
 */

import { isDeepStrictEqual } from "node:util";
import { sendsToInterfaces } from "../maps/facts.ts";
import type { State } from "../syscall/state.ts";
import { interfacesChange, objectEnd } from "./own_commands.ts";
import type { Clock, Interfaces, Mirror } from "./ports.ts";
import type { Request } from "./request.ts";

export interface MachineWatchParts {
  readonly state: Pick<State, "interfaces">;
  readonly mirror: Pick<Mirror, "endedObjects">;
  readonly interfaces: Interfaces;
  readonly clock: Pick<Clock, "nowMs">;
  /** Becomes an event of the next batch. */
  readonly note: (request: Request) => void;
  readonly report: (message: string, error: unknown) => void;
}

/** How old knowledge of interfaces and of processes may be. */
const MACHINE_MS = 100;

export class MachineWatch {
  readonly #parts: MachineWatchParts;
  /** Whether any map has interfaces for elements. */
  #usesInterfaces = false;
  #lookedMs = Number.NEGATIVE_INFINITY;

  constructor(parts: MachineWatchParts) {
    this.#parts = parts;
  }

  /** There is a map of this type. */
  hasMap(type: number): void {
    this.#usesInterfaces ||= sendsToInterfaces(type);
  }

  /** Notes changes since the last look, which is not repeated for a while. */
  look(): void {
    const nowMs = this.#parts.clock.nowMs();
    if (nowMs - this.#lookedMs < MACHINE_MS) return;
    this.#lookedMs = nowMs;
    try {
      this.#lookNow();
    } catch (error) {
      this.#parts.report("looking at the machine", error);
    }
  }

  /** If the machine cannot tell, nothing is concluded. */
  #lookNow(): void {
    const { state, mirror, interfaces, note } = this.#parts;
    for (const object of mirror.endedObjects()) note(objectEnd(object));
    if (!this.#usesInterfaces) return;
    const ifindexes = interfaces();
    if (ifindexes !== null && !isDeepStrictEqual(ifindexes, state.interfaces.indexes))
      note(interfacesChange(ifindexes));
  }
}
