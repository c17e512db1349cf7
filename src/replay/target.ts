import type { Event } from "../log/event.ts";
import type { Answer } from "./answer.ts";
import type { Call, LeftOut } from "./call.ts";
import type { Difference } from "./compare.ts";
import type { Id, Shape } from "./ids.ts";

/** Where commands are replayed to. What it throws ends the replay: it is gone, or takes nothing more. */
export interface Target {
  /** Whether its answers are its own, to be held against the recorded ones; a script's are what was recorded. */
  readonly answers: boolean;
  /** Commands that may be under way at once, where their order is certain to hold. */
  readonly window: number;
  /** Does what an event tells of; `call` is the event in the target's numbers, `recorded` what it was answered with. */
  send(call: Call, event: Event, recorded: Answer): Promise<Answer | LeftOut>;
  /** Keeps what it has open from ending while nothing is sent; answers how many milliseconds may pass until it is asked again. */
  keepAlive?(): number;
  /** What a descriptor is of, where its opening did not say. */
  describe?(session: Id, fd: Id): Promise<Description>;
  /**
   * What is to be thought of an answer that was held against the recorded one: a difference may be the target's to make,
   * and says so in `free`; null: there is none.
   */
  judge?(
    difference: Difference | null,
    event: Event,
    shape: Shape | undefined,
    recorded: Answer,
    got: Answer,
  ): Difference | null;
}

/** Where a script's text goes; resolves when there is room for more. */
export type Write = (text: string) => Promise<void>;

export interface Description {
  readonly map?: number;
  readonly shape?: Shape;
  readonly cgroup?: string;
}

/** The target takes nothing more; what it answered before stands. */
export class TargetFailed extends Error {
  constructor(why: string, options?: ErrorOptions) {
    super(why, options);
    this.name = "TargetFailed";
  }
}
