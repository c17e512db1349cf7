/**
 * What followers of one map cost those who write to it, and how late they are told. The followers are in a process of
 * their own, which reads the messages of ten of them and counts the bytes of the others.
 */

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import autocannon from "autocannon";
import { type CaughtUp, catchUp, catchUpFigures } from "./catch_up.ts";
import type { FollowersAsked, FollowersSeen } from "./follower_client.ts";
import { startBenchService } from "./service.ts";
import type { Figure } from "./targets.ts";

const CONNECTIONS = 16;
const PARSED = 10;
const MANY = 1000;
const OFFERED = 2000;
const KEYS = 1000;
const KEY_BYTES = 8;
const VALUE = JSON.stringify({ value: "a5".repeat(64) });
const MIB = 1_000_000;
const US = 1_000_000;
/** Of /proc/PID/stat's times. */
const TICKS_PER_SECOND = 100;
/** Followers have what was written by then, or the figures say that they have not. */
const DRAIN_MS = 10_000;

/** What one stretch of PUTs gave. */
interface Stretch {
  readonly rate: number;
  readonly p99Ms: number;
  readonly unanswered: number;
  /** CPU of the service's process, all threads. */
  readonly cpuUsAPut: number;
  readonly deliveredMBs: number;
  readonly lagP99Ms: number;
  readonly behind: CaughtUp;
}

/** The figures of one round: a service of its own. */
export async function followers(seconds: number): Promise<readonly Figure[]> {
  const service = await startBenchService("off", {
    MAPLEDGER_AUTH: "on",
    MAPLEDGER_STREAMS_MAX: String(10 * MANY),
    MAPLEDGER_CALLER_STREAMS_MAX: "0",
    MAPLEDGER_LAG_MAX: "1000000000",
  });
  const token = readFileSync(`${service.data}/token`, "utf8").trim();
  const client = new Client();
  try {
    const writer = await Writer.prepare(service.url, token, service.pid);
    await writer.put(1);
    const stretch = async (count: number, rate?: number): Promise<Stretch> => {
      const follow = { url: service.url, path: `/v1/maps/1/watch?after=${await writer.one()}`, token };
      await client.open({ ...follow, count, parsed: Math.min(PARSED, count) });
      await client.seen();
      const put = await writer.put(seconds, rate);
      const during = await client.seen();
      const behind = await catchUp(service.url, token);
      const drained = await client.drained(count === 0 ? 0 : await writer.one());
      await client.close();
      const faults = [...during.faults, ...drained.faults];
      if (faults.length > 0) throw new Error(`following: ${faults[0]}, and ${faults.length - 1} more`);
      const lagP99Ms = percentile([during.lags, drained.lags], 0.99);
      return { ...put, deliveredMBs: during.bytes / MIB / put.seconds, lagP99Ms, behind };
    };
    const none = await stretch(0);
    const few = await stretch(PARSED);
    const some = await stretch(10 * PARSED);
    const alone = await stretch(0, OFFERED);
    const offered = await stretch(MANY, OFFERED);
    const closed = await stretch(MANY);
    return [
      { name: "PUT 16, 0 followers /s", figure: none.rate },
      { name: "PUT 16, 10 followers, of without", figure: few.rate / none.rate, target: { least: 1 } },
      { name: "PUT 16, 10 followers, lag p99 ms", figure: few.lagP99Ms },
      { name: "PUT 16, 100 followers, of without", figure: some.rate / none.rate, target: { least: 0.9 } },
      { name: "PUT 16, 100 followers, lag p99 ms", figure: some.lagP99Ms },
      { name: "PUT 16, 100 followers, delivered MB/s", figure: some.deliveredMBs },
      { name: "PUT 16, 0 followers, CPU us a PUT", figure: none.cpuUsAPut },
      { name: "PUT 16, 10 followers, CPU us a PUT", figure: few.cpuUsAPut },
      { name: "PUT 16, 100 followers, CPU us a PUT", figure: some.cpuUsAPut },
      { name: "PUT 2000/s, 1000 followers, not answered", figure: offered.unanswered, target: { most: 0 } },
      { name: "PUT 2000/s, 1000 followers /s", figure: offered.rate },
      { name: "PUT 2000/s, 1000 followers, lag p99 ms", figure: offered.lagP99Ms, target: { most: 200 } },
      { name: "PUT 2000/s, 0 followers, p99 ms", figure: alone.p99Ms },
      { name: "PUT 2000/s, 1000 followers, p99 ms", figure: offered.p99Ms },
      {
        name: "PUT 2000/s, 1000 followers, p99 of without",
        figure: offered.p99Ms / alone.p99Ms,
        target: { most: 1.5 },
      },
      { name: "PUT 16, 1000 followers /s", figure: closed.rate },
      { name: "PUT 16, 1000 followers, delivered MB/s", figure: closed.deliveredMBs, target: { least: 500 } },
      { name: "PUT 16, 1000 followers, lag p99 ms", figure: closed.lagP99Ms },
      ...catchUpFigures("PUT 16, 0 followers", none.behind),
      ...catchUpFigures("PUT 16, 1000 followers", closed.behind),
    ];
  } finally {
    await client.end();
    await service.stop();
  }
}

/** The process with the followers. */
class Client {
  readonly #child: ChildProcess = fork(new URL("follower_client.ts", import.meta.url).pathname, { execArgv: [] });

  open(follow: FollowersAsked): Promise<FollowersSeen> {
    return this.#ask({ follow });
  }

  seen(): Promise<FollowersSeen> {
    return this.#ask({});
  }

  /** Until an event has come to those that are parsed. */
  async drained(seq: number): Promise<FollowersSeen> {
    const endMs = performance.now() + DRAIN_MS;
    const lags: Record<number, number> = {};
    for (;;) {
      const seen = await this.seen();
      for (const [ms, count] of Object.entries(seen.lags)) lags[Number(ms)] = (lags[Number(ms)] ?? 0) + count;
      const faults = performance.now() > endMs ? [`${seen.seq} is the last that came, of ${seq}`] : seen.faults;
      if (seen.seq >= seq || faults.length > 0) return { ...seen, lags, faults };
      await sleep(10);
    }
  }

  close(): Promise<FollowersSeen> {
    return this.#ask({ close: true });
  }

  async end(): Promise<void> {
    this.#child.kill();
    await once(this.#child, "exit");
  }

  async #ask(asked: object): Promise<FollowersSeen> {
    const answer = once(this.#child, "message") as Promise<[FollowersSeen]>;
    this.#child.send(asked);
    return (await answer)[0];
  }
}

/** PUTs on one map, of which nothing else is written to the log. */
class Writer {
  readonly #url: string;
  readonly #headers: Record<string, string>;
  readonly #pid: number;
  readonly #path: string;

  private constructor(url: string, headers: Record<string, string>, pid: number, path: string) {
    this.#url = url;
    this.#headers = headers;
    this.#pid = pid;
    this.#path = path;
  }

  static async prepare(url: string, token: string, pid: number): Promise<Writer> {
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    const post = async (path: string, body: object): Promise<Record<string, unknown>> => {
      const answer = await fetch(url + path, { method: "POST", headers, body: JSON.stringify(body) });
      if (!answer.ok) throw new Error(`posting to ${path}: ${answer.status} ${await answer.text()}`);
      return (await answer.json()) as Record<string, unknown>;
    };
    const session = `/v1/sessions/${(await post("/v1/sessions", { name: "bench", ttl_seconds: 86_400 })).id}`;
    const map = { map_type: "BPF_MAP_TYPE_HASH", key_size: KEY_BYTES, value_size: 64, max_entries: KEYS };
    return new Writer(url, headers, pid, `${session}/fds/${(await post(`${session}/maps`, map)).fd}`);
  }

  /** The seq of one more PUT. */
  async one(): Promise<number> {
    const url = `${this.#url}${this.#path}/elements/${key(0)}`;
    const answer = await fetch(url, { method: "PUT", headers: this.#headers, body: VALUE });
    return ((await answer.json()) as { seq: number }).seq;
  }

  /** `offered`: so many a second; left out: one after the other on each connection. */
  async put(
    seconds: number,
    offered?: number,
  ): Promise<Omit<Stretch, "deliveredMBs" | "lagP99Ms" | "behind"> & { readonly seconds: number }> {
    const before = this.#cpuUs();
    const result = await autocannon({
      url: this.#url,
      connections: CONNECTIONS,
      duration: seconds,
      ...(offered !== undefined && { overallRate: offered }),
      requests: Array.from({ length: KEYS }, (_, at) => ({
        method: "PUT" as const,
        path: `${this.#path}/elements/${key((at * 7919) % KEYS)}`,
        headers: this.#headers,
        body: VALUE,
      })),
      workers: undefined as never,
    });
    const answered = result["2xx"];
    return {
      rate: answered / result.duration,
      p99Ms: result.latency.p99,
      unanswered: result.non2xx + result.errors + result.timeouts,
      cpuUsAPut: (this.#cpuUs() - before) / answered,
      seconds: result.duration,
    };
  }

  #cpuUs(): number {
    const fields = readFileSync(`/proc/${this.#pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
    return ((Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND) * US;
  }
}

function key(number: number): string {
  const bytes = Buffer.alloc(KEY_BYTES);
  bytes.writeUInt32LE(number);
  return bytes.toString("hex");
}

/** Of milliseconds, by how often they were. */
function percentile(counts: readonly Readonly<Record<number, number>>[], part: number): number {
  const all = new Map<number, number>();
  for (const some of counts)
    for (const [ms, count] of Object.entries(some)) all.set(Number(ms), (all.get(Number(ms)) ?? 0) + count);
  const sorted = [...all].sort(([a], [b]) => a - b);
  const total = sorted.reduce((sum, [, count]) => sum + count, 0);
  let reached = 0;
  for (const [ms, count] of sorted) {
    reached += count;
    if (reached >= total * part) return ms;
  }
  return 0;
}
