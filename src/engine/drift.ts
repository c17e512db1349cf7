/**
 * Decides when kernel maps are compared with their maps, and by which policy: at a start, when an operator asks, and in
 * intervals. `comparisons.ts` compares.
 */

import { isOfMaps } from "../maps/facts.ts";
import type { DriftPolicy, MapRecord } from "../maps/map.ts";
import { type Comparison, Comparisons, type DriftAnswer, type LastReport, type Policy } from "./comparisons.ts";
import { Deadlines } from "./deadlines.ts";
import { NOTHING_TOLD } from "./drift_tally.ts";
import type { MirrorNotes } from "./mirror_notes.ts";
import type { MirrorSources } from "./mirror_sources.ts";
import type { Clock, Mirror, MirrorSource } from "./ports.ts";
import type { Request } from "./request.ts";
import { Slots } from "./slots.ts";
import type { Window } from "./windows.ts";

export interface DriftParts {
  readonly mirror: Mirror;
  readonly sources: Pick<MirrorSources, "of">;
  /** Runs the engine's own commands at once. Returns whether the log has them. */
  readonly run: (requests: readonly Request[]) => boolean;
  readonly notes: Pick<MirrorNotes, "refused" | "failed">;
  readonly clock: Pick<Clock, "nowMs">;
}

interface Job {
  readonly ask: Comparison;
  readonly steps: Generator<void, DriftAnswer>;
  readonly answer: (answer: DriftAnswer) => void;
  readonly fail: (error: unknown) => void;
}

/** A map that is compared in intervals. */
interface Watched extends LastReport {
  readonly policy: DriftPolicy;
  readonly slot: number;
}

/** The most comparisons at intervals that are under way at once. */
const AT_INTERVALS_MAX = 64;

/**
 * The policy of a map. If it names none: `report` for an adopted map, so that the work of its owner stays, and `repair`
 * for a map of the ledger's own, which writes over changes of others. After a take-over it is `report` until an
 * operator decides.
 */
export function policyOf({ undecided, drift, adopted }: MapRecord): Policy {
  if (undecided === true) return "report";
  return drift?.policy ?? (adopted === undefined ? "repair" : "report");
}

export class Drift {
  readonly #parts: DriftParts;
  readonly #comparisons: Comparisons;
  readonly #watched = new Map<number, Watched>();
  readonly #slots = new Slots();
  /** When the next comparison of each is due. */
  readonly #deadlines = new Deadlines();
  #atIntervals = 0;
  readonly #jobs: Job[] = [];

  constructor(parts: DriftParts) {
    const { mirror, sources, run, notes } = parts;
    this.#parts = parts;
    const lastReport = (map: number): LastReport | undefined => this.#watched.get(map);
    this.#comparisons = new Comparisons({ mirror, sources, run, notes, lastReport });
  }

  /** The differing elements that comparisons with a policy have found since the start. */
  get found(): number {
    return this.#comparisons.found;
  }

  /** Begins, changes or ends a map's interval, after its policy was set. */
  watch({ id, drift }: Pick<MapRecord, "id" | "drift">): void {
    const present = this.#watched.get(id);
    if (drift === undefined || drift.intervalMs === 0) {
      if (present === undefined) return;
      this.#deadlines.clear(present.slot);
      this.#slots.give(id);
      this.#watched.delete(id);
    } else {
      const slot = present?.slot ?? this.#slots.take(id);
      this.#watched.set(id, { policy: drift, slot, told: NOTHING_TOLD });
      this.#deadlines.set(slot, this.#parts.clock.nowMs() + drift.intervalMs);
    }
  }

  /** Compares a map, and changes nothing. */
  report(map: number, limit: number): Promise<DriftAnswer> {
    return this.#queue({ map, policy: null, window: null, at: null, limit, atOnce: false });
  }

  /** Compares a map and acts by the policy, in pieces. */
  settle(map: number, policy: Policy, window: Window, at: string): Promise<DriftAnswer> {
    return this.#queue({ map, policy, window, at, limit: 0, atOnce: false });
  }

  /** The same in one go: at a start, before anything is served. */
  settleNow(map: number, policy: Policy, window: Window, at: string): DriftAnswer {
    const steps = this.#comparisons.of({ map, policy, window, at, limit: 0, atOnce: true });
    for (;;) {
      const { value, done } = steps.next();
      if (done === true) return value;
    }
  }

  /**
   * Compares all maps of maps except `inner` itself with their kernel maps, because `inner` has another kernel map now.
   */
  settleOuter(inner: number, sources: Iterable<MirrorSource>): void {
    for (const { map } of sources)
      if (map.id !== inner && isOfMaps(map.type))
        this.settle(map.id, policyOf(map), null, "inner map").catch((error) => this.#failed(error));
  }

  /** Writes the ledger's elements with these keys to the kernel map, or imports the kernel's. */
  decide(map: number, take: "ledger" | "kernel", keys: readonly Buffer[]): void {
    this.#comparisons.decide(map, take, keys);
  }

  /** Begins comparisons that are due, and runs a piece. Returns whether there is more. */
  step(): boolean {
    const due = this.#deadlines.over(this.#parts.clock.nowMs(), AT_INTERVALS_MAX - this.#atIntervals);
    for (const slot of due) this.#beginAtInterval(this.#slots.idOf(slot));
    const job = this.#jobs.shift();
    if (job === undefined) return false;
    try {
      const { value, done } = job.steps.next();
      if (done === true) job.answer(value);
      else this.#jobs.push(job);
    } catch (error) {
      job.fail(error);
    }
    return this.#jobs.length > 0;
  }

  /** A comparison of the map that is under way takes the place of this one. */
  #beginAtInterval(map: number): void {
    const watched = this.#watched.get(map) as Watched;
    const { policy, slot } = watched;
    const nextMs = this.#parts.clock.nowMs() + policy.intervalMs;
    this.#deadlines.set(slot, nextMs);
    const record = this.#parts.sources.of(map)?.map;
    if (record === undefined) {
      this.watch({ id: map });
      return;
    }
    if (this.#jobs.some(({ ask }) => ask.map === map && ask.policy !== null)) return;
    this.#deadlines.clear(slot);
    this.#atIntervals++;
    this.#queue({ map, policy: policyOf(record), window: null, at: null, limit: 0, atOnce: false })
      .catch((error) => this.#failed(error))
      .finally(() => {
        this.#atIntervals--;
        // Its policy may have been set anew meanwhile.
        if (this.#watched.get(map) === watched) this.#deadlines.set(slot, nextMs);
      });
  }

  #failed(error: unknown): void {
    this.#parts.notes.failed("comparing a kernel map", error);
  }

  #queue(ask: Comparison): Promise<DriftAnswer> {
    return new Promise((answer, fail) => this.#jobs.push({ ask, steps: this.#comparisons.of(ask), answer, fail }));
  }
}
