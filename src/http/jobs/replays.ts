/**
 * Replays that run inside the service, as jobs. A job gets events from the reader's thread, as all readers of the log
 * do. Its target is another mapledger (`client`) or this machine's kernel (`mirror`). `http` imports neither, so
 * `service/replay_targets.ts` opens it.
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

/** The most running replays, and the most ended ones that are remembered. */
const RUNNING_MAX = 4;
const KEPT_MAX = 64;

const US = 1000;

/** Another mapledger, or this machine's kernel. */
export type TargetSpec = { readonly url: URL; readonly token: string | null } | "kernel";

/** Opens the target of a replay, or returns the reason why it cannot. */
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
  /** A factor of the recorded speed; null: as fast as possible. */
  readonly speed: number | null;
  readonly prepare: boolean;
}

type JobState = "running" | "done" | "failed" | "cancelled";

/** A running or ended replay. */
export interface Job {
  readonly id: number;
  readonly spec: ReplaySpec;
  readonly state: JobState;
  readonly startedUs: number;
  readonly endedUs: number | null;
  readonly summary: Summary;
  readonly differences: readonly Difference[];
  /** The reason for a failure; null: there was none. */
  readonly detail: string | null;
}

const CLOCK: Clock = {
  nowMs: () => performance.now(),
  sleep: (ms, signal) => sleep(ms, undefined, { ref: false, ...(signal && { signal }) }).catch(() => {}),
};

/** All replays of the service, of all its listeners: the running ones, and the last ended ones. */
export class Replays {
  readonly #openTarget: OpenTarget;
  readonly #jobs = new Map<number, RunningJob>();
  #last = 0;

  constructor(openTarget: OpenTarget) {
    this.#openTarget = openTarget;
  }

  /** Cancels all replays when the listener closes. */
  endWith(app: App): void {
    app.addHook("preClose", async () => {
      for (const job of this.#jobs.values()) job.cancel();
    });
  }

  /** Throws a Problem if RUNNING_MAX replays are running, those of all callers together. */
  checkRoom(): void {
    const running = [...this.#jobs.values()].filter(({ state }) => state === "running").length;
    if (running >= RUNNING_MAX)
      throw new Problem("too-many-replays", `${running} replays are already running (limit ${RUNNING_MAX})`);
  }

  /** Throws as checkRoom does, and InvalidInput if the target cannot be opened. */
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

  /** Ascending by id. */
  all(): readonly Job[] {
    return [...this.#jobs.values()];
  }

  /** Called at each start: until the next one, more than KEPT_MAX ended replays may be remembered. */
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
