/** What the threads that serve HTTP count together, for limits that hold over all of them. */

import type { QueueElsewhere } from "../../engine/client.ts";
import { SharedCounts } from "../../supervisor/shared_counts.ts";
import type { FlightElsewhere } from "../server/flight.ts";

const COMMANDS = 0;
const QUEUE_KIB = 1;
const FLIGHT_KIB = 2;
const KINDS = 3;
const KIB = 1024;

export class ThreadCounts {
  readonly #shared: SharedCounts;
  /** For this thread's EngineClient. */
  readonly queue: QueueElsewhere;
  /** For this thread's Flight. */
  readonly flight: FlightElsewhere;

  /** `of`: the memory of another thread's counts, or, in the first thread, the number of all. */
  constructor(of: SharedArrayBuffer | { readonly threads: number }, thread: number) {
    const shared = new SharedCounts(KINDS, of);
    this.#shared = shared;
    this.queue = {
      get commands() {
        return shared.others(COMMANDS, thread);
      },
      get bytes() {
        return shared.others(QUEUE_KIB, thread) * KIB;
      },
      tell(commands, bytes) {
        shared.set(COMMANDS, thread, commands);
        shared.set(QUEUE_KIB, thread, Math.ceil(bytes / KIB));
      },
    };
    this.flight = {
      get bytes() {
        return shared.others(FLIGHT_KIB, thread) * KIB;
      },
      tell(bytes) {
        shared.set(FLIGHT_KIB, thread, Math.ceil(bytes / KIB));
      },
    };
  }

  get memory(): SharedArrayBuffer {
    return this.#shared.memory;
  }

  /** A thread has ended: it has nothing any more. */
  clear(thread: number): void {
    this.#shared.clear(thread);
  }
}
