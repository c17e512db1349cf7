/** Counts commands, and collects the engine's figures for the metrics (`http/server/metrics.ts`). */

import { CMD } from "../abi/service.ts";
import type { Amounts } from "../access/quotas.ts";
import type { MapRecord } from "../maps/map.ts";
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

/** A caller's commands since the start, and its usage of quotas. */
export interface CallerStats {
  readonly caller: string;
  readonly commands: number;
  /** Those that ended with an errno, and of these the ones that would have exceeded a quota. */
  readonly refused: number;
  readonly overQuota: number;
  readonly amounts: Readonly<Amounts>;
}

/** The last event of the log, the last event of the store, and the cells pending between them. */
interface Progress {
  readonly seq: number;
  readonly stateSeq: number;
  readonly pendingCells: number;
}

export interface EngineStats extends Progress {
  /** All callers that have sent a command since the start or use any quota. */
  readonly callers: readonly CallerStats[];
  /** The commands since the start: cmd, errno, count. */
  readonly commands: readonly (readonly number[])[];
  readonly sessions: number;
  readonly mirrorOff: string | null;
  /** The kernel's refusals since the start. */
  readonly mirrorRefusals: number;
  /** The differing elements that comparisons have found since the start. */
  readonly driftFound: number;
  /** The number of maps by the status of their kernel map. */
  readonly mirrorMaps: MirrorCounts;
  readonly mapCount: number;
  /** The first maps by id, at most as many as requested: each is a series of its own. */
  readonly maps: readonly { id: number; name: string; type: number; entries: number; maxEntries: number }[];
}

export interface StatsParts {
  readonly state: State;
  readonly leases: { readonly count: number };
  readonly kernelMaps: Pick<KernelMaps, "off" | "refusalCount" | "drift" | "counts">;
  readonly progress: () => Progress;
}

/** All errnos are smaller. A key of the counts is cmd * ERRNO_END + errno. */
const ERRNO_END = 1024;

/** Counts commands, and collects figures of the engine for the metrics. */
export class Stats {
  readonly #parts: StatsParts;
  /** The commands since the start, by cmd and errno. */
  readonly #counts = new Map<number, number>();
  /** The same by caller. */
  readonly #byCaller = new Map<string, { commands: number; refused: number; overQuota: number }>();

  constructor(parts: StatsParts) {
    this.#parts = parts;
  }

  /** Counts a command that is in the log. */
  count(command: Command, { errno, out }: Outcome): void {
    const { caller } = command;
    const cmd = cmdNumber(command);
    const key = cmd * ERRNO_END + errno;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    // A request that was refused before it became a command.
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

  /** `mapsMax`: the most maps that are listed. */
  async collect(mapsMax: number): Promise<EngineStats> {
    const { state, leases, kernelMaps, progress } = this.#parts;
    const maps: { id: number; name: string; type: number; entries: number; maxEntries: number }[] = [];
    const list = (map: MapRecord): void => {
      const { id, name, type, maxEntries } = map;
      maps.push({ id, name, type, maxEntries, entries: state.counts.listed(map) });
    };
    await visitMaps(state, list, mapsMax);
    const mirrorMaps = await kernelMaps.counts();
    return {
      callers: this.#callers(),
      commands: [...this.#counts].map(([key, count]) => [Math.floor(key / ERRNO_END), key % ERRNO_END, count]),
      ...progress(),
      sessions: leases.count,
      mirrorOff: kernelMaps.off,
      mirrorRefusals: kernelMaps.refusalCount,
      driftFound: kernelMaps.drift.found,
      mirrorMaps,
      mapCount: state.mapCount,
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
