/**
 * CPU time a request, by threads of the service, beside a bare node:http server that answers the same requests. All subjects run in each round,
 * one after the other. The threads that read the log may be behind it when a load ends: what they still do is measured, too.
 */

import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { type CaughtUp, catchUp, catchUpFigures } from "./catch_up.ts";
import { load, type Rate } from "./load.ts";
import { type Subject, startBare, startBenchService, startEcho } from "./service.ts";
import type { Figure } from "./targets.ts";

const KEYS = 100_000;
const VALUE = "a5".repeat(64);
const JSON_TYPE = "application/json";
const PAIRS_A_BATCH = 10_000;
const METHODS = ["PUT", "GET"] as const;
/** CPU time a request above that of node:http alone, all threads, in microseconds. */
const TARGETS = { PUT: 12, GET: 9 } as const;
const CONNECTIONS = [64, 256] as const;
const WARM_REQUESTS = 50_000;
const WARM_TIMES = 10;

/** What has no thread's name of its own: V8's helpers, libuv's pool. */
const HELPERS = "helpers";
/** A service rests when it has used less than this in each of three successive looks. */
const REST_US = 10_000;
const LOOK_MS = 250;
const LOOKS_MAX = 40;

interface Server extends Subject {
  readonly pid: number;
}

interface DataServer extends Server {
  readonly data: string;
}

export interface Measured {
  readonly name: string;
  readonly server: Server;
  /** Before `/elements/`. */
  readonly path: string;
  readonly token: string | null;
}

export interface Cost extends Rate {
  /** Microseconds a request while it was measured: each thread, and all of them. */
  readonly threads: Readonly<Record<string, number>>;
  readonly all: number;
  /** Microseconds a request afterwards, and seconds until the service rested. */
  readonly later: number;
  readonly restSeconds: number;
  /** null: it has no log. */
  readonly behind: CaughtUp | null;
}

/** A round's figures at a time. */
export async function* cpu(rounds: number, seconds: number): AsyncIterable<readonly Figure[]> {
  const [bare, echo] = [await startBare(), await startEcho()];
  const subjects = [
    { name: "bare", server: bare, path: "", token: null },
    await measuredService("token"),
    await measuredService("AUTH=off", { MAPLEDGER_AUTH: "off" }),
    { name: "echo", server: echo, path: "", token: null },
  ];
  try {
    for (const subject of subjects) for (const method of METHODS) await warm(subject, method, seconds);
    for (let round = 1; round <= rounds; round++) {
      process.stderr.write(`cpu, round ${round} of ${rounds}\n`);
      for (const method of METHODS)
        for (const connections of CONNECTIONS) yield await compare(subjects, method, connections, seconds, round);
    }
  } finally {
    for (const { server } of subjects) await server.stop();
  }
}

async function compare(
  subjects: readonly Measured[],
  method: "PUT" | "GET",
  connections: number,
  seconds: number,
  round: number,
): Promise<readonly Figure[]> {
  const costs = new Map<string, Cost>();
  for (let at = 0; at < subjects.length; at++) {
    const subject = subjects[(at + round) % subjects.length] as Measured;
    costs.set(subject.name, await measure(subject, method, connections, seconds));
  }
  const [bare, token, off, echo] = ["bare", "token", "AUTH=off", "echo"].map((name) => costs.get(name)) as [
    Cost,
    Cost,
    Cost,
    Cost,
  ];
  const row = `${method} ${connections}`;
  const ratios = [
    { name: `${row}, rate of the echo`, figure: token.rate / echo.rate },
    { name: `${row}, p99 of the echo`, figure: token.p99Ms / echo.p99Ms },
  ];
  if (connections !== CONNECTIONS[0]) return ratios;
  return [
    { name: `${row}, node:http alone, CPU us`, figure: bare.all },
    { name: `${row}, CPU us above it`, figure: token.all - bare.all, target: { most: TARGETS[method] } },
    { name: `${row}, CPU, times node:http alone`, figure: token.all / bare.all },
    { name: `${row}, CPU us above it, AUTH=off`, figure: off.all - bare.all },
    ...Object.entries(token.threads).map(([thread, figure]) => ({ name: `${row}, CPU us, ${thread}`, figure })),
    { name: `${row}, CPU us afterwards`, figure: token.later },
    { name: `${row}, at rest after s`, figure: token.restSeconds },
    ...catchUpFigures(row, token.behind as CaughtUp),
    ...ratios,
  ];
}

/** V8 compiles what is run often: this is not what a request costs. */
export async function warm(subject: Measured, method: "PUT" | "GET", seconds: number): Promise<void> {
  for (let sent = 0, times = 0; sent < WARM_REQUESTS && times < WARM_TIMES; times++)
    sent += (await send(subject, method, CONNECTIONS[0], seconds)).rate * seconds;
}

/** `senders`: threads that send the requests; left out: this one alone. */
export async function measure(
  subject: Measured,
  method: "PUT" | "GET",
  connections: number,
  seconds: number,
  senders?: number,
): Promise<Cost> {
  const { server } = subject;
  const before = threadsOf(server.pid);
  const rate = await send(subject, method, connections, seconds, senders);
  const ended = performance.now();
  const after = threadsOf(server.pid);
  const behind = subject.path === "" ? null : await catchUp(server.url, subject.token);
  const restedUs = await rested(server.pid);
  const count = rate.rate * seconds;
  const threads: Record<string, number> = {};
  for (const [name, us] of Object.entries(after)) threads[name] = (us - (before[name] ?? 0)) / count;
  const all = (sum(after) - sum(before)) / count;
  const later = (restedUs - sum(after)) / count;
  const restSeconds = (performance.now() - ended) / 1000 - (3 * LOOK_MS) / 1000;
  return { ...rate, threads, all, later, restSeconds, behind };
}

function send(
  { server, path, token }: Measured,
  method: "PUT" | "GET",
  connections: number,
  seconds: number,
  senders?: number,
): Promise<Rate> {
  const authorization = token === null ? {} : { authorization: `Bearer ${token}` };
  const headers = method === "PUT" ? { ...authorization, "content-type": JSON_TYPE } : authorization;
  const body = method === "PUT" ? { body: JSON.stringify({ value: VALUE }) } : {};
  const requests = Array.from({ length: 1000 }, (_, at) => {
    return { method, path: `${path}/elements/${key((at * 7919) % KEYS)}`, headers, ...body };
  });
  return load({ url: server.url, connections, seconds, requests, ...(senders !== undefined && { senders }) });
}

/** Waits until a process uses next to nothing. Returns its CPU time. */
async function rested(pid: number): Promise<number> {
  let last = sum(threadsOf(pid));
  for (let look = 0, quiet = 0; look < LOOKS_MAX && quiet < 3; look++) {
    await sleep(LOOK_MS);
    const now = sum(threadsOf(pid));
    quiet = now - last < REST_US ? quiet + 1 : 0;
    last = now;
  }
  return last;
}

function sum(threads: Readonly<Record<string, number>>): number {
  return Object.values(threads).reduce((all, us) => all + us, 0);
}

/** Microseconds of CPU time of a process's threads, by their names. */
function threadsOf(pid: number): Record<string, number> {
  const threads: Record<string, number> = {};
  for (const id of readdirSync(`/proc/${pid}/task`)) {
    try {
      const name = id === String(pid) ? "http" : readFileSync(`/proc/${pid}/task/${id}/comm`, "utf8").trim();
      const [ns] = readFileSync(`/proc/${pid}/task/${id}/schedstat`, "utf8").split(" ");
      const of = /^[a-z_]+$/.test(name) ? name : HELPERS;
      threads[of] = (threads[of] ?? 0) + Number(ns) / 1000;
    } catch (error) {
      // The thread has ended meanwhile.
      if ((error as { code?: string }).code !== "ENOENT" && (error as { code?: string }).code !== "ESRCH") throw error;
    }
  }
  return threads;
}

/** The service with every key in a hash, asked with a token unless the settings say that nobody needs one. */
export async function measuredService(
  name: string,
  settings: Readonly<Record<string, string>> = {},
): Promise<Measured & { readonly server: DataServer }> {
  const all = { MAPLEDGER_AUTH: "on", ...settings };
  const server = await startBenchService("off", all);
  const token = all.MAPLEDGER_AUTH === "on" ? readFileSync(`${server.data}/token`, "utf8").trim() : null;
  const post = async (path: string, body: object): Promise<Record<string, unknown>> => {
    const headers = { "content-type": JSON_TYPE, ...(token !== null && { authorization: `Bearer ${token}` }) };
    const response = await fetch(`${server.url}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`preparing the service: ${response.status} ${await response.text()}`);
    return (await response.json()) as Record<string, unknown>;
  };
  const { id } = await post("/v1/sessions", { name: "bench", ttl_seconds: 86_400 });
  const map = { map_type: "BPF_MAP_TYPE_HASH", key_size: 8, value_size: 64, max_entries: KEYS };
  const { fd } = await post(`/v1/sessions/${id}/maps`, map);
  const path = `/v1/sessions/${id}/fds/${fd}`;
  for (let first = 0; first < KEYS; first += PAIRS_A_BATCH) {
    const elements = Array.from({ length: PAIRS_A_BATCH }, (_, at) => ({ key: key(first + at), value: VALUE }));
    await post(`${path}/batch/update`, { elements });
  }
  await rested(server.pid);
  return { name, server, path, token };
}

function key(number: number): string {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(number);
  return bytes.toString("hex");
}
