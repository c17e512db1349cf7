import { CMD } from "../abi/service.ts";
import type { Amounts } from "../access/quotas.ts";
import { type Command, cmdNumber } from "../syscall/command.ts";
import type { Outcome } from "../syscall/outcome.ts";
import type { State } from "../syscall/state.ts";
import type { KernelMaps } from "./kernel_maps.ts";
import type { MirrorCounts } from "./mirror_notes.ts";
import { visitMaps } from "./turns.ts";

/** Figures of one batch, for the metrics. */
export interface BatchFigures {
  readonly commands: number;
  readonly executeMs: number;
  readonly commitMs: number;
  readonly mirrorMs: number;
}

/** A caller's commands since the start, and what he has. */
export interface CallerStats {
  readonly caller: string;
  readonly commands: number;
  /** Of them those that ended with an errno, and of these those that were over a quota. */
  readonly refused: number;
  readonly overQuota: number;
  readonly amounts: Readonly<Amounts>;
}

/** How far the log is, how far the store, and how many cells are pending between them. */
interface Progress {
  readonly seq: number;
  readonly stateSeq: number;
  readonly pendingCells: number;
}

export interface EngineStats extends Progress {
  /** Of everybody who has sent a command since the start, or has anything. */
  readonly callers: readonly CallerStats[];
  /** Commands that are in the log since the start: cmd, errno, count. */
  readonly commands: readonly (readonly number[])[];
  readonly sessions: number;
  readonly mirrorOff: string | null;
  /** Refusals of the kernel's since the start. */
  readonly mirrorRefusals: number;
  /** Elements that scans have found to differ since the start. */
  readonly driftFound: number;
  /** Maps by how they stand with their kernel map. */
  readonly mirrorMaps: MirrorCounts;
  readonly mapCount: number;
  /** The first of them by id, as many as were asked for; a series each is for some, not for all. */
  readonly maps: readonly { id: number; name: string; type: number; entries: number; maxEntries: number }[];
}

export interface StatsParts {
  readonly state: State;
  readonly leases: { readonly count: number };
  readonly kernelMaps: Pick<KernelMaps, "off" | "refusalCount" | "drift" | "noCounts" | "count">;
  readonly progress: () => Progress;
}

/** Errnos end below: cmd and errno make one key of the counts. */
const ERRNO_END = 1024;

/** Counts commands, and collects figures of the engine for the metrics. */
export class Stats {
  readonly #parts: StatsParts;
  /** Commands that are in the log since the start, by cmd and errno. */
  readonly #counts = new Map<number, number>();
  /** The same by caller. */
  readonly #byCaller = new Map<string, { commands: number; refused: number; overQuota: number }>();

  constructor(parts: StatsParts) {
    this.#parts = parts;
  }

  /** A command is in the log. */
  count(command: Command, { errno, out }: Outcome): void {
    const { caller } = command;
    const cmd = cmdNumber(command);
    const key = cmd * ERRNO_END + errno;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    // What was refused before it was a command.
    if (cmd === CMD.ACCESS_REFUSED) return;
    let counts = this.#byCaller.get(caller);
    if (counts === undefined) {
      counts = { commands: 0, refused: 0, overQuota: 0 };
      this.#byCaller.set(caller, counts);
    }
    counts.commands++;
    if (errno !== 0) counts.refused++;
    if (out?.quota !== undefined) counts.overQuota++;
  }

  /** Of at most `mapsMax` maps, the first by id. Maps are counted a piece a turn. */
  async collect(mapsMax: number): Promise<EngineStats> {
    const { state, leases, kernelMaps, progress } = this.#parts;
    const maps: { id: number; name: string; type: number; entries: number; maxEntries: number }[] = [];
    const mirrorMaps = kernelMaps.noCounts();
    let mapCount = 0;
    await visitMaps(state, (map) => {
      const { id, name, type, maxEntries } = map;
      if (maps.length < mapsMax) maps.push({ id, name, type, maxEntries, entries: state.counts.listed(map) });
      kernelMaps.count(id, mirrorMaps);
      mapCount++;
    });
    return {
      callers: this.#callers(),
      commands: [...this.#counts].map(([key, count]) => [Math.floor(key / ERRNO_END), key % ERRNO_END, count]),
      ...progress(),
      sessions: leases.count,
      mirrorOff: kernelMaps.off,
      mirrorRefusals: kernelMaps.refusalCount,
      driftFound: kernelMaps.drift.found,
      mirrorMaps,
      mapCount,
      maps,
    };
  }

  #callers(): CallerStats[] {
    const { usage } = this.#parts.state.charges;
    const names = new Set([...this.#byCaller.keys(), ...[...usage.all()].map(([caller]) => caller)]);
    const none = { commands: 0, refused: 0, overQuota: 0 };
    return [...names].map((caller) => ({
      caller,
      ...(this.#byCaller.get(caller) ?? none),
      amounts: usage.of(caller),
    }));
  }
}
