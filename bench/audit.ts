/**
 * What auditors read of a long log: all of it as NDJSON, pages of events that filters select, differences between two
 * moments; and what another caller waits for his PUTs beside each.
 */

import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { Caller, waitsOf } from "./caller.ts";
import { anonymousMib, MemorySampler } from "./flight.ts";
import type { LinesRead } from "./line_reader.ts";
import { hashKey } from "./log_maker.ts";
import type { PastSubject } from "./past.ts";
import type { Figure } from "./targets.ts";

const PAGES = 50;
const LIMIT = 100;
/** Parts of the log from which pages and differences are asked. */
const PLACES = [0, 0.2, 0.4, 0.6, 0.8] as const;
/** The length of a difference, as a part of the log. */
const SPAN = 0.001;

/** What events are asked for: common ones, rare ones, and none. */
const FILTERS: Readonly<Record<string, string>> = {
  "of a map": "map=2",
  "of a caller and a command": "caller=bob&cmd=BPF_MAP_DELETE_ELEM",
  "of a key": `map=1&key=${hashKey(4711).toString("hex")}`,
  refused: "failed=true",
  "that match nothing": "caller=nobody",
};

/** The figures of one round. */
export async function audit({ url, pid, events }: PastSubject): Promise<readonly Figure[]> {
  const caller = await Caller.prepare(url);
  const row = `audit of ${events} events`;
  const figures: Figure[] = [];
  const beside = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    const [waits, done] = await caller.putBeside(work());
    figures.push({ name: `${row}, PUT p99 ms beside ${what}`, figure: waits.p99, target: { most: 50 } });
    figures.push({ name: `${row}, PUT most ms beside ${what}`, figure: waits.most });
    return done;
  };
  try {
    const rest = anonymousMib(pid);
    const memory = new MemorySampler(pid);
    const alone = await readLines(`${url}/v1/events`);
    const besidePuts = await beside("its export", () => readLines(`${url}/v1/events`));
    memory.end();
    figures.push(
      { name: `${row}, exported events/s`, figure: rateOf(alone), target: { least: 200_000 } },
      { name: `${row}, exported events/s beside PUTs`, figure: rateOf(besidePuts) },
      { name: `${row}, exported MB/s`, figure: alone.bytes / alone.ms / 1000 },
      { name: `${row}, RssAnon above rest MiB`, figure: memory.most - rest, target: { most: 100 } },
    );
    for (const [what, filter] of Object.entries(FILTERS)) {
      const asked = (at: number): string =>
        `${url}/v1/events?${filter}&after=${Math.floor(events * place(at)) + at * LIMIT}&limit=${LIMIT}`;
      const times = await beside(`pages of events ${what}`, () => timesOf(asked));
      figures.push({ name: `${row}, a page ${what}, p99 ms`, figure: waitsOf(times).p99, target: { most: 50 } });
    }
    const differences = await beside("differences", () =>
      timesOf((at) => {
        const from = Math.floor(events * place(at)) + 100 + at;
        return `${url}/v1/maps/1/diff?from=${from}&to=${from + Math.floor(events * SPAN)}`;
      }),
    );
    figures.push({ name: `${row}, a difference, p99 ms`, figure: waitsOf(differences).p99, target: { most: 50 } });
    return figures;
  } finally {
    caller.close();
  }
}

function place(at: number): number {
  return PLACES[at % PLACES.length] as number;
}

function rateOf({ lines, ms }: LinesRead): number {
  return (lines / ms) * 1000;
}

/** Reads in a thread of its own, so that it delays no PUT of this one. */
async function readLines(url: string): Promise<LinesRead> {
  const worker = new Worker(new URL("line_reader.ts", import.meta.url), { workerData: url });
  const [read] = (await once(worker, "message")) as [LinesRead];
  await worker.terminate();
  return read;
}

/** Milliseconds of each request, one after the other. */
async function timesOf(asked: (at: number) => string): Promise<readonly number[]> {
  const times: number[] = [];
  for (let at = 0; at < PAGES; at++) {
    const started = performance.now();
    const response = await fetch(asked(at));
    const text = await response.text();
    if (!response.ok) throw new Error(`getting ${asked(at)}: ${response.status} ${text}`);
    times.push(performance.now() - started);
  }
  return times;
}
