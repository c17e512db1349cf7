/**
 * Changes of the machine become commands, so that a replay needs no machine: an object that ended (a process that
 * exited, a cgroup that was removed) is OBJECT_END, network interfaces that came or went are INTERFACES.
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
  /** Adds an event to the next batch. */
  readonly note: (request: Request) => void;
  readonly report: (message: string, error: unknown) => void;
}

/** The interval of looks at the machine. */
const MACHINE_MS = 100;

export class MachineWatch {
  readonly #parts: MachineWatchParts;
  /** Whether a map whose values name network interfaces was ever there. */
  #usesInterfaces = false;
  #lookedMs = Number.NEGATIVE_INFINITY;

  constructor(parts: MachineWatchParts) {
    this.#parts = parts;
  }

  /** Call with the type of each map, when it is recovered or created. */
  hasMap(type: number): void {
    this.#usesInterfaces ||= sendsToInterfaces(type);
  }

  /** Notes changes since the last look, if that is MACHINE_MS ago. */
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

  /** If the interfaces are unknown, no change is noted. */
  #lookNow(): void {
    const { state, mirror, interfaces, note } = this.#parts;
    for (const object of mirror.endedObjects()) note(objectEnd(object));
    if (!this.#usesInterfaces) return;
    const ifindexes = interfaces();
    if (ifindexes !== null && !isDeepStrictEqual(ifindexes, state.interfaces.indexes))
      note(interfacesChange(ifindexes));
  }
}
