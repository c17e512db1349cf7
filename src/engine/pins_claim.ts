/**
 * The claim of the directory of pins. While another log or process has it, the mirror is off, and the claim is tried
 * again each second. While it is ours, the mirror records the log's last event, so that the next start finds out whether
 * the kernel maps belong to this log.
 */

import type { Clock, LogEnd, Mirror } from "./ports.ts";

export interface PinsClaimParts {
  readonly mirror: Pick<Mirror, "follows" | "off" | "begin" | "takeOver" | "identify">;
  readonly log: LogEnd;
  readonly clock: Pick<Clock, "nowMs">;
  readonly report: (message: string, error: unknown) => void;
}

const BEGIN_MS = 1000;
const IDENTIFY_AGAIN_MS = 60_000;

export class PinsClaim {
  readonly #parts: PinsClaimParts;
  #beganMs = Number.NEGATIVE_INFINITY;
  /** The log's last event is not hashed before this time, because the log could not be read. */
  #identifyAfterMs = Number.NEGATIVE_INFINITY;

  constructor(parts: PinsClaimParts) {
    this.#parts = parts;
  }

  /** Claims the directory. Returns whether the mirror is on. */
  begin(): boolean {
    const { mirror, log } = this.#parts;
    return mirror.follows && mirror.begin(log) === null;
  }

  /** The same, at most once a second. */
  beginAgain(): boolean {
    const nowMs = this.#parts.clock.nowMs();
    if (nowMs - this.#beganMs < BEGIN_MS) return false;
    this.#beganMs = nowMs;
    return this.begin();
  }

  /** Takes the directory from its owner. `record` is called first. Returns null, or the reason why it was not taken. */
  takeOver(record: (owner: string) => string | null): string | null {
    const { mirror, log } = this.#parts;
    return mirror.takeOver(log, record);
  }

  /** Records the event that the kernel maps have reached, with its hash. */
  identify(): void {
    const { mirror, log, clock, report } = this.#parts;
    if (clock.nowMs() < this.#identifyAfterMs) return;
    try {
      mirror.identify(log);
    } catch (error) {
      this.#identifyAfterMs = clock.nowMs() + IDENTIFY_AGAIN_MS;
      report("hashing the event that the kernel maps have come to", error);
    }
  }
}
