/** How far the index, the history and the tree are behind the log when a load ends, and how soon they are not. */

import { setTimeout as sleep } from "node:timers/promises";
import { metricsOf } from "./metrics.ts";
import type { Figure } from "./targets.ts";

const LOOK_MS = 20;
const PATIENCE_MS = 60_000;
const SECONDS_MAX = 2;
const PARTS = ["mapledger_index_seq", "mapledger_history_seq", "mapledger_tree_size"] as const;

export interface CaughtUp {
  /** Of the part that is furthest behind. */
  readonly events: number;
  /** Until all parts have the event that was the log's last one when the load ended. */
  readonly seconds: number;
}

/** Call when a load ends. `token` null: callers need none. Throws if a part does not catch up within a minute. */
export async function catchUp(url: string, token: string | null = null): Promise<CaughtUp> {
  const started = performance.now();
  const look = async (): Promise<(name: string) => number> => {
    const text = await metricsOf(url, token);
    return (name) => Number(new RegExp(`^${name} (\\d+)$`, "m").exec(text)?.[1]);
  };
  const first = await look();
  const last = first("mapledger_log_seq");
  const behind = (seqs: (name: string) => number): number => last - Math.min(...PARTS.map(seqs));
  for (let seqs = first; ; seqs = await look()) {
    if (behind(seqs) <= 0) return { events: Math.max(0, behind(first)), seconds: (performance.now() - started) / 1000 };
    const isLate = performance.now() - started > PATIENCE_MS;
    if (isLate || Number.isNaN(behind(seqs)))
      throw new Error(`${url}: the log has ${last}, its parts ${PARTS.map(seqs)}`);
    await sleep(LOOK_MS);
  }
}

/** Nothing is won by putting off what a command causes: within two seconds it is done. */
export function catchUpFigures(row: string, { events, seconds }: CaughtUp): readonly Figure[] {
  return [
    { name: `${row}, parts behind the log at its end, events`, figure: events },
    { name: `${row}, parts at the log's end after s`, figure: seconds, target: { most: SECONDS_MAX } },
  ];
}
