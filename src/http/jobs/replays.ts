/**
 * Replays that run inside the service, as jobs. A job reads the log as every reader does, from the reader's thread.
 * `service/replay_targets.ts` opens its target, because that may be in a ring that `http` does not import: another
 * mapledger (`client`) or this machine's kernel (`mirror`).
 */

import { setTimeout as sleep } from "node:timers/promises";
import { InvalidInput } from "../../codec/invalid.ts";
import type { Difference } from "../../replay/compare.ts";
import { Ids } from "../../replay/ids.ts";
import { type Clock, Pace } from "../../replay/pace.ts";
import { Replay } from "../../replay/replay.ts";
import { isFiltered, type Selection } from "../../replay/selection.ts";
import type { Source } from "../../replay/source.ts";
import type { Summary } from "../../replay/summary.ts";
import type { Target } from "../../replay/target.ts";
import type { App } from "../server/instance.ts";
import { Problem } from "../server/problems.ts";
import { FirstDifferences } from "./differences.ts";

/** Replays under way at once, and those that are remembered when they are over. */
const RUNNING_MAX = 4;
const KEPT_MAX = 64;

const US = 1000;

/** Another mapledger, or this machine's kernel. */
export type TargetSpec = { readonly url: URL; readonly token: string | null } | "kernel";

/** Opens what a replay's commands are sent to, or says why it cannot. */
export type OpenTarget = (spec: TargetSpec) => OpenedTarget | { readonly refused: string };

interface OpenedTarget {
  readonly target: Target;
  close(): void;
}

export interface ReplaySpec {
  readonly caller: string;
  readonly source: Source;
  readonly selection: Selection;
  readonly target: TargetSpec;
  /** null: as fast as it goes. */
  readonly speed: number | null;
  readonly prepare: boolean;
}

type JobState = "running" | "done" | "failed" | "cancelled";

/** A replay that runs inside the service, or has run. */
export interface Job {
  readonly id: number;
  readonly spec: ReplaySpec;
  readonly state: JobState;
  readonly startedUs: number;
  readonly endedUs: number | null;
  readonly summary: Summary;
  readonly differences: readonly Difference[];
  /** Why it failed. */
  readonly detail: string | null;
}

const CLOCK: Clock = {
  nowMs: () => performance.now(),
  sleep: (ms, signal) => sleep(ms, undefined, { ref: false, ...(signal && { signal }) }).catch(() => {}),
};

/** The replays of the service, over all its listeners: a few at a time, the last of those that are over. */
export class Replays {
  readonly #openTarget: OpenTarget;
  readonly #jobs = new Map<number, RunningJob>();
  #last = 0;

  constructor(openTarget: OpenTarget) {
    this.#openTarget = openTarget;
  }

  /** When the service stops, replays are cancelled. */
  endWith(app: App): void {
    app.addHook("preClose", async () => {
      for (const job of this.#jobs.values()) job.cancel();
    });
  }

  /** Throws the problem of one replay too many, over all callers. */
  checkRoom(): void {
    const running = [...this.#jobs.values()].filter(({ state }) => state === "running").length;
    if (running >= RUNNING_MAX)
      throw new Problem("too-many-replays", `${running} replays are already running (limit ${RUNNING_MAX})`);
  }

  /** Throws as checkRoom does, InvalidInput where its target cannot be had. */
  start(spec: ReplaySpec): Job {
    this.checkRoom();
    const opened = this.#openTarget(spec.target);
    if ("refused" in opened) throw new InvalidInput("target", opened.refused);
    const job = new RunningJob(++this.#last, spec, opened);
    this.#jobs.set(job.id, job);
    this.#forget();
    return job;
  }

  get(id: number): Job {
    return this.#jobs.get(id) ?? missing(id);
  }

  cancel(id: number): Job {
    const job = this.#jobs.get(id) ?? missing(id);
    job.cancel();
    return job;
  }

  /** By id. */
  all(): readonly Job[] {
    return [...this.#jobs.values()];
  }

  #forget(): void {
    const over = this.all().filter(({ state }) => state !== "running");
    for (const { id } of over.slice(0, Math.max(over.length - KEPT_MAX, 0))) this.#jobs.delete(id);
  }
}

function missing(id: number): never {
  throw new Problem("no-such-replay", `there is no replay ${id}`);
}

class RunningJob implements Job {
  readonly id: number;
  readonly spec: ReplaySpec;
  readonly startedUs = Date.now() * US;
  state: JobState = "running";
  endedUs: number | null = null;
  detail: string | null = null;
  readonly #replay: Replay;
  readonly #opened: OpenedTarget;
  readonly #cancelled = new AbortController();
  readonly #differences = new FirstDifferences();

  constructor(id: number, spec: ReplaySpec, opened: OpenedTarget) {
    this.id = id;
    this.spec = spec;
    this.#opened = opened;
    const { source, selection, prepare, speed } = spec;
    this.#replay = new Replay({
      source,
      target: opened.target,
      ids: new Ids({ partial: isFiltered(selection) && !prepare, oneTable: spec.target === "kernel" }),
      selection,
      prepare,
      pace: speed === null ? null : new Pace(speed, CLOCK),
      signal: this.#cancelled.signal,
      onDifference: (difference) => this.#differences.add(difference),
    });
    this.#run();
  }

  get differences(): readonly Difference[] {
    return this.#differences.list;
  }

  get summary(): Summary {
    return this.#replay.summary;
  }

  cancel(): void {
    this.#cancelled.abort();
  }

  async #run(): Promise<void> {
    try {
      await this.#replay.run();
      this.state = this.#cancelled.signal.aborted ? "cancelled" : "done";
    } catch (error) {
      this.state = "failed";
      const { last_seq } = this.summary;
      this.detail = `${(error as Error).message}: it came up to event ${last_seq}`;
    } finally {
      this.endedUs = Date.now() * US;
      this.#opened.close();
    }
  }
}
