/**
 * What single PUTs wait under a load that never rests, beside the bare Fastify route; what commits take meanwhile, and
 * how large the log's WAL gets.
 */

import { statSync } from "node:fs";
import { join } from "node:path";
import { LOG_FILE } from "../src/data/layout.ts";
import { catchUp, catchUpFigures } from "./catch_up.ts";
import { measuredService } from "./cpu.ts";
import { requests } from "./elements.ts";
import { load } from "./load.ts";
import { metricsOf } from "./metrics.ts";
import { startEcho } from "./service.ts";
import type { Figure } from "./targets.ts";

const CONNECTIONS = 64;
const KEYS = 100_000;
const LOOK_MS = 100;
const MIB = 1024 * 1024;

/** The figures of one round. */
export async function tails(seconds: number): Promise<readonly Figure[]> {
  const echo = await startEcho();
  const { server, path, token } = await measuredService("token");
  const each = { connections: CONNECTIONS, seconds };
  try {
    const bare = await load({ ...each, url: echo.url, requests: requests("", "PUT", KEYS) });
    const before = await commits(server.url, token);
    const wal = new WalSampler(server.data);
    const put = await load({ ...each, url: server.url, requests: requests(path, "PUT", KEYS, token) });
    wal.end();
    const behind = await catchUp(server.url, token);
    const after = await commits(server.url, token);
    const during = after.map(([seconds, count], at) => [seconds, count - (before[at] as Bucket)[1]] as const);
    const row = `PUT ${CONNECTIONS} for ${Math.round(seconds)} s`;
    return [
      { name: `${row} /s`, figure: put.rate },
      { name: `${row}, p99 ms`, figure: put.p99Ms },
      { name: `${row}, p99, times the echo's`, figure: put.p99Ms / bare.p99Ms, target: { most: 3 } },
      { name: `${row}, most ms`, figure: put.mostMs, target: { most: 50 } },
      { name: `${row}, the echo's most ms`, figure: bare.mostMs },
      { name: `${row}, 99.9 % of commits within ms`, figure: 1000 * within(during, 0.999), target: { most: 10 } },
      { name: `${row}, WAL MiB at most`, figure: wal.most / MIB, target: { most: 64 } },
      ...catchUpFigures(row, behind),
    ];
  } finally {
    await echo.stop();
    await server.stop();
  }
}

/** A bucket of a histogram: so many observations of at most so many seconds. */
type Bucket = readonly [seconds: number, count: number];

async function commits(url: string, token: string | null): Promise<readonly Bucket[]> {
  const text = await metricsOf(url, token);
  return Array.from(text.matchAll(/^mapledger_commit_seconds_bucket\{le="([^"]+)"\} (\d+)$/gm), ([, le, count]) => [
    le === "+Inf" ? Number.POSITIVE_INFINITY : Number(le),
    Number(count),
  ]);
}

/** The bound of the first bucket that has this part of all observations. */
function within(buckets: readonly Bucket[], part: number): number {
  const all = buckets.at(-1)?.[1] ?? 0;
  return buckets.find(([, count]) => count >= part * all)?.[0] ?? Number.NaN;
}

class WalSampler {
  most = 0;
  readonly #timer: NodeJS.Timeout;

  constructor(data: string) {
    const file = `${join(data, LOG_FILE)}-wal`;
    this.#timer = setInterval(() => {
      this.most = Math.max(this.most, statSync(file, { throwIfNoEntry: false })?.size ?? 0);
    }, LOOK_MS);
  }

  end(): void {
    clearInterval(this.#timer);
  }
}
