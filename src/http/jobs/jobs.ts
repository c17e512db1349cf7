import { isOver, type Limits, overQuota, QUOTAS } from "../../access/quotas.ts";
import type { Archiver } from "../../engine/archives.ts";
import { Problem } from "../server/problems.ts";
import type { Replays } from "./replays.ts";

/** What the service does for callers beside their commands: replays, imports, and the job that archives events. */
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

  /** Those of a caller that run. */
  countOf(caller: string): number {
    const running = this.#replays.all().filter(({ state, spec }) => state === "running" && spec.caller === caller);
    const { job } = this.#archiver;
    const archives = job?.state === "running" && job.caller === caller ? 1 : 0;
    return running.length + archives + (this.#imports.get(caller) ?? 0);
  }

  /** Throws the problem of one job too many. */
  checkRoom(caller: string): void {
    const count = this.countOf(caller);
    if (!isOver(this.#limits, "jobs", caller, count, 1)) return;
    const extras = { errno: QUOTAS.jobs.errno, quota: "jobs" };
    throw new Problem("too-many-jobs", overQuota(this.#limits, "jobs", caller, count, 1), extras);
  }

  /** An import begins; it is over when the function that is answered has been called. Throws as checkRoom does. */
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
