import { CMD } from "../abi/service.ts";
import type { DriftPolicy, MapRecord } from "../maps/map.ts";
import type { BatchCommand } from "../syscall/command.ts";
import { batch } from "./batches.ts";
import type { Request } from "./engine.ts";
import type { ElementDifference, Mirror, MirrorRefusal, MirrorScan, MirrorSource } from "./ports.ts";

/** Elements that are not the same in the ledger and in the kernel. */
interface DriftCounts {
  /** In the ledger alone. */
  readonly missing: number;
  /** In both, with other values. */
  readonly changed: number;
  /** In the kernel alone. */
  readonly extra: number;
}

/** An ElementDifference in hex: a Buffer would cross threads with all of the memory that it is a view of. */
interface ToldDifference {
  readonly key: string;
  readonly ledger: string | null;
  readonly kernel: string | null;
}

/** What a map and its kernel map differ in. */
interface DriftReport {
  readonly counts: DriftCounts;
  /** As many of them as were asked for. */
  readonly differences: readonly ToldDifference[];
}

/** Why there is no report: the map is gone; the kernel does not tell; the kernel refused. */
export type DriftAnswer = DriftReport | { readonly gone: true } | { readonly untold: string } | MirrorRefusal;

export interface DriftParts {
  readonly mirror: Mirror;
  /** null: the map is gone. */
  readonly sourceOf: (map: number) => MirrorSource | null;
  /** Runs commands of the service's own at once. */
  readonly run: (requests: readonly Request[]) => void;
  /** Becomes an event of the next batch. */
  readonly note: (request: Request) => void;
  readonly refused: (refusals: readonly MirrorRefusal[]) => void;
}

interface Job {
  readonly map: number;
  readonly scan: MirrorScan;
  /** null: it is asked for, and changes nothing. */
  readonly policy: DriftPolicy["policy"] | null;
  readonly counts: { missing: number; changed: number; extra: number };
  readonly differences: ToldDifference[];
  readonly limit: number;
  readonly answer: (answer: DriftAnswer) => void;
}

/** What is due to be scanned. */
interface Watched {
  readonly policy: DriftPolicy;
  nextMs: number;
  /** What the last report said. */
  told: string;
}

const NOTHING_TOLD = describe({ missing: 0, changed: 0, extra: 0 });

/**
 * Finds what others have written into kernel maps: when it is asked, and in intervals by each map's policy. A scan is done
 * in pieces between batches; what is found in a piece is acted upon with it, before anything else can happen to the map.
 */
export class Drift {
  readonly #parts: DriftParts;
  readonly #watched = new Map<number, Watched>();
  readonly #jobs: Job[] = [];
  /** Elements that scans by policy have found since the start. */
  found = 0;

  constructor(parts: DriftParts) {
    this.#parts = parts;
  }

  /** A map's policy is this from now on. */
  watch({ id, drift }: Pick<MapRecord, "id" | "drift">, nowMs: number): void {
    if (drift === undefined || drift.intervalMs === 0) this.#watched.delete(id);
    else this.#watched.set(id, { policy: drift, nextMs: nowMs + drift.intervalMs, told: NOTHING_TOLD });
  }

  /** Scans a map, and changes nothing. */
  report(map: number, limit: number): Promise<DriftAnswer> {
    return new Promise((answer) => this.#begin(map, null, limit, answer));
  }

  /** Begins what is due, and does a piece of what is under way; answers whether there is more. */
  step(nowMs: number): boolean {
    for (const [map, watched] of this.#watched) {
      if (watched.nextMs > nowMs || this.#jobs.some((job) => job.map === map && job.policy !== null)) continue;
      watched.nextMs = nowMs + watched.policy.intervalMs;
      this.#begin(map, watched.policy.policy, 0, (answer) => this.#scanned(map, answer));
    }
    const job = this.#jobs.shift();
    if (job === undefined) return false;
    const answer = this.#piece(job);
    if (answer === null) this.#jobs.push(job);
    else job.answer(answer);
    return this.#jobs.length > 0;
  }

  #begin(map: number, policy: Job["policy"], limit: number, answer: Job["answer"]): void {
    const source = this.#parts.sourceOf(map);
    if (source === null) {
      answer({ gone: true });
      return;
    }
    const counts = { missing: 0, changed: 0, extra: 0 };
    this.#jobs.push({ map, scan: this.#parts.mirror.scan(source), policy, counts, differences: [], limit, answer });
  }

  /** null: there is more to look at. */
  #piece(job: Job): DriftAnswer | null {
    const source = this.#parts.sourceOf(job.map);
    if (source === null) return { gone: true };
    const { value, done } = job.scan.next();
    if (done !== true) {
      this.#take(job, source, value);
      return null;
    }
    return value ?? { counts: job.counts, differences: job.differences };
  }

  #take(job: Job, source: MirrorSource, found: readonly ElementDifference[]): void {
    if (found.length === 0) return;
    for (const difference of found) {
      job.counts[kindOf(difference)]++;
      if (job.differences.length < job.limit) job.differences.push(inHex(difference));
    }
    if (job.policy !== null) this.found += found.length;
    if (job.policy === "repair") this.#parts.refused(this.#parts.mirror.mend(source, found));
    else if (job.policy === "import") this.#parts.run(importRequests(job.map, found));
  }

  /** What a report or a repair has found is an event, where it is not what the last one said; an import tells of itself. */
  #scanned(map: number, answer: DriftAnswer): void {
    const watched = this.#watched.get(map);
    if (watched === undefined) return;
    if ("gone" in answer) {
      this.#watched.delete(map);
      return;
    }
    if ("operation" in answer) this.#parts.refused([answer]);
    if ("operation" in answer || "untold" in answer || watched.policy.policy === "import") return;
    const told = describe(answer.counts);
    const isNews = watched.policy.policy === "repair" ? told !== NOTHING_TOLD : told !== watched.told;
    watched.told = told;
    if (isNews) this.#parts.note(driftRequest(map, watched.policy.policy, answer.counts));
  }
}

function inHex({ key, ledger, kernel }: ElementDifference): ToldDifference {
  return {
    key: key.toString("hex"),
    ledger: ledger?.toString("hex") ?? null,
    kernel: kernel?.toString("hex") ?? null,
  };
}

function kindOf({ ledger, kernel }: ElementDifference): keyof DriftCounts {
  if (ledger === null) return "extra";
  return kernel === null ? "missing" : "changed";
}

function describe({ missing, changed, extra }: DriftCounts): string {
  return `${missing} ${changed} ${extra}`;
}

const SERVICE = { session: 0, caller: "mapledger" } as const;

function driftRequest(map: number, policy: DriftPolicy["policy"], counts: DriftCounts): Request {
  return { cmd: CMD.MIRROR_DRIFT, ...SERVICE, target: { by: "id", id: map }, attr: { policy, ...counts } };
}

/** What the kernel has, as batches: those that are gone there first, so that there is room for the others. */
function importRequests(map: number, found: readonly ElementDifference[]): Request[] {
  const gone = found.filter(({ kernel }) => kernel === null);
  const there = found.filter(({ kernel }) => kernel !== null);
  const target = { by: "id", id: map } as const;
  const keysOf = (of: readonly ElementDifference[]): Buffer[] => of.map(({ key }) => key);
  const batches: BatchCommand[] = [];
  if (gone.length > 0) batches.push(batch(CMD.BPF_MAP_DELETE_BATCH, target, keysOf(gone), null));
  if (there.length > 0) {
    const values = there.map(({ kernel }) => kernel as Buffer);
    batches.push(batch(CMD.BPF_MAP_UPDATE_BATCH, target, keysOf(there), values));
  }
  return batches.map((command) => ({ ...SERVICE, imported: true, ...command }));
}
