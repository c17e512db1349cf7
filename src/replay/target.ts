/**
 * Targets of a replay: another mapledger (`client`, through `api_target.ts`), this machine's kernel
 * (`mirror/kernel_target.ts`), or a writer of a script (`curl.ts`, `bpftool.ts`). A writer returns the recorded
 * answers, and a token (`tokens.ts`) for an id that only the running script will know.
 */

import type { Event } from "../log/event.ts";
import type { Answer } from "./answer.ts";
import type { Call, LeftOut } from "./call.ts";
import type { Difference } from "./compare.ts";
import type { Id, Shape } from "./ids.ts";

/** A target of a replay. An error that it throws ends the replay: the target is gone, or takes no more commands. */
export interface Target {
  /**
   * Whether the target's answers are its own and are compared with the recorded ones. A script returns the recorded
   * ones.
   */
  readonly answers: boolean;
  /** The most commands that may be outstanding at once if they keep their order. */
  readonly window: number;
  /** Does what the event records. `call`: the request with the target's ids; `recorded`: the recorded answer. */
  send(call: Call, event: Event, recorded: Answer): Promise<Answer | LeftOut>;
  /**
   * Keeps the target's sessions alive while nothing is sent; returns the milliseconds after which it must be called
   * again.
   */
  keepAlive?(): number;
  /** Facts about a new descriptor that the answer did not have. */
  describe?(session: Id, fd: Id): Promise<Description>;
  /**
   * Lets the target decide about a comparison: it may mark a difference as allowed (`free`), find another, or none
   * (null).
   */
  judge?(
    difference: Difference | null,
    event: Event,
    shape: Shape | undefined,
    recorded: Answer,
    got: Answer,
  ): Difference | null;
}

/** Writes a part of a script; resolves when more can be written. */
export type Write = (text: string) => Promise<void>;

export interface Description {
  readonly map?: number;
  readonly shape?: Shape;
  readonly btf?: number;
  readonly cgroup?: string;
}

/** The target takes no more commands. Earlier answers are valid. */
export class TargetFailed extends Error {
  constructor(why: string, options?: ErrorOptions) {
    super(why, options);
    this.name = "TargetFailed";
  }
}
