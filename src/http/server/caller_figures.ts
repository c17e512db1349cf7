/** Figures by caller for the metrics: commands, refusals, and use of quotas. */

import type { Callers } from "../../access/callers.ts";
import { type Limits, type QuotaName, STATE_QUOTAS } from "../../access/quotas.ts";
import { limitsOf, type Settings } from "../../config.ts";
import type { CallerStats, EngineStats } from "../../engine/stats.ts";
import type { Refusals } from "./access.ts";
import type { UnknownCallers } from "./unknown_callers.ts";

/** The figures of one caller. */
export interface CallerFigures {
  /** "" for all callers together that are no longer known. */
  readonly caller: string;
  commands: number;
  refused: { errno: number; quota: number; scope: number };
  used: Record<QuotaName, number>;
}

/** The figures of all callers, and the requests of unknown ones by kind. */
export interface AccessFigures {
  readonly callers: readonly CallerFigures[];
  readonly limits: Limits;
  readonly unknown: Readonly<Record<string, number>>;
}

/** Counts something that each caller has at present. */
interface Count {
  countOf(caller: string): number;
}

/** The counters that the figures come from. */
export interface FigureSources {
  readonly callers: Pick<Callers, "names">;
  readonly refusals: Pick<Refusals, "totals">;
  readonly unknownCallers: Pick<UnknownCallers, "totals">;
  readonly streams: Count;
  readonly jobs: Count;
  readonly settings: Settings;
}

/**
 * One row for each known caller, and one for all others that the log has: the number of rows depends on the tokens file
 * only.
 */
export function accessFigures(sources: FigureSources, stats: Pick<EngineStats, "callers">): AccessFigures {
  const known = sources.callers.names();
  const rows = new Map<string, CallerFigures>();
  const rowOf = (name: string): CallerFigures => {
    const caller = known.has(name) ? name : "";
    const row = rows.get(caller) ?? newRow(sources, caller);
    rows.set(caller, row);
    return row;
  };
  for (const name of known) rowOf(name);
  for (const one of stats.callers) add(rowOf(one.caller), one);
  for (const [name, count] of sources.refusals.totals) rowOf(name).refused.scope += count;
  return { callers: [...rows.values()], limits: limitsOf(sources.settings), unknown: sources.unknownCallers.totals };
}

function newRow({ streams, jobs }: FigureSources, caller: string): CallerFigures {
  const state = { sessions: 0, maps: 0, descriptors: 0, pins: 0, objects: 0, bytes: 0, kernel_bytes: 0 };
  const used = { ...state, streams: streams.countOf(caller), jobs: jobs.countOf(caller) };
  return { caller, commands: 0, refused: { errno: 0, quota: 0, scope: 0 }, used };
}

function add(row: CallerFigures, stats: CallerStats): void {
  row.commands += stats.commands;
  row.refused.errno += stats.refused - stats.overQuota;
  row.refused.quota += stats.overQuota;
  for (const quota of STATE_QUOTAS) row.used[quota] += stats.amounts[quota];
}
