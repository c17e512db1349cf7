/**
 * What more HTTP threads reach. On a machine with n cores, 1 to n threads are measured (4 at most), one after the other
 * in each round; the sender has as many threads. A thread's share is the part of the time that it was running: one that
 * is near 1 is what limits the rate.
 */

import { availableParallelism } from "node:os";
import { catchUpFigures } from "./catch_up.ts";
import { type Measured, measure, measuredService, warm } from "./cpu.ts";
import type { Figure } from "./targets.ts";

const THREADS_MOST = 4;
const CONNECTIONS = 64;
const METHODS = ["PUT", "GET"] as const;
const US = 1e6;

/** A round's figures at a time. */
export async function* threads(rounds: number, seconds: number): AsyncIterable<readonly Figure[]> {
  const counts = Array.from({ length: Math.min(THREADS_MOST, Math.max(2, availableParallelism())) }, (_, at) => at + 1);
  const subjects: Measured[] = [];
  for (const count of counts) subjects.push(await measuredService(`${count}`, { MAPLEDGER_HTTP_THREADS: `${count}` }));
  try {
    for (const subject of subjects) for (const method of METHODS) await warm(subject, method, seconds);
    for (let round = 1; round <= rounds; round++) {
      process.stderr.write(`threads, round ${round} of ${rounds}\n`);
      for (const method of METHODS) yield await compare(subjects, method, seconds, round);
    }
  } finally {
    for (const { server } of subjects) await server.stop();
  }
}

async function compare(
  subjects: readonly Measured[],
  method: "PUT" | "GET",
  seconds: number,
  round: number,
): Promise<readonly Figure[]> {
  const rates = new Map<Measured, number>();
  const figures: Figure[] = [];
  for (let at = 0; at < subjects.length; at++) {
    const subject = subjects[(at + round) % subjects.length] as Measured;
    const cost = await measure(subject, method, CONNECTIONS, seconds, subjects.length);
    rates.set(subject, cost.rate);
    const row = `${method} by ${subject.name} HTTP threads`;
    figures.push({ name: `${row} /s`, figure: cost.rate }, { name: `${row}, p99 ms`, figure: cost.p99Ms });
    if (cost.behind !== null) figures.push(...catchUpFigures(row, cost.behind));
    for (const [thread, us] of Object.entries(cost.threads))
      figures.push({ name: `${row}, share of ${thread}`, figure: (us * cost.rate) / US });
  }
  const [alone, ...more] = subjects as [Measured, ...Measured[]];
  for (const subject of more) {
    const ratio = (rates.get(subject) as number) / (rates.get(alone) as number);
    figures.push({ name: `${method} by ${subject.name} HTTP threads, of 1`, figure: ratio });
  }
  return figures;
}
