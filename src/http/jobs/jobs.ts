import { isOver, type Limits, overQuota, QUOTAS } from "../../access/quotas.ts";
import type { Archiver } from "../../engine/archives.ts";
import { Problem } from "../server/problems.ts";
import type { Replays } from "./replays.ts";

/** Counts each caller's jobs (replays, imports, and the archiving of events) for the quota of jobs. */
export class Jobs {
  readonly #replays: Pick<Replays, "all">;
  readonly #archiver: Pick<Archiver, "job">;
  readonly #limits: Limits;
  readonly #imports = new Map<string, number>();

  constructor(replays: Pick<Replays, "all">, archiver: Pick<Archiver, "job">, limits: Limits) {
    this.#replays = replays;
    this.#archiver = archiver;
    this.#limits = limits;
  }

  /** The number of a caller's running jobs. */
  countOf(caller: string): number {
    const running = this.#replays.all().filter(({ state, spec }) => state === "running" && spec.caller === caller);
    const { job } = this.#archiver;
    const archives = job?.state === "running" && job.caller === caller ? 1 : 0;
    return running.length + archives + (this.#imports.get(caller) ?? 0);
  }

  /** Throws a Problem if one more job would exceed the caller's quota. */
  checkRoom(caller: string): void {
    const count = this.countOf(caller);
    if (!isOver(this.#limits, "jobs", caller, count, 1)) return;
    const extras = { errno: QUOTAS.jobs.errno, quota: "jobs" };
    throw new Problem("too-many-jobs", overQuota(this.#limits, "jobs", caller, count, 1), extras);
  }

  /** Counts an import as running until the returned function is called. Throws as checkRoom does. */
  beginImport(caller: string): () => void {
    this.checkRoom(caller);
    this.#imports.set(caller, (this.#imports.get(caller) ?? 0) + 1);
    return () => {
      const left = (this.#imports.get(caller) ?? 0) - 1;
      if (left > 0) this.#imports.set(caller, left);
      else this.#imports.delete(caller);
    };
  }
}
