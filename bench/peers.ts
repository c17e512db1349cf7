/**
 * The same work done by others: 64 clients each write values of 64 bytes to random ones of 100,000 keys of 8 bytes, and
 * each write is on the disk when it is answered. Peers that the machine does not have are left out. Each is measured by
 * its own client, mapledger and etcd by wrk:
 *
 *     redis-server      appendonly yes, appendfsync always; no HTTP, and no record of who wrote what
 *     etcd              one member, by its HTTP gateway
 *     postgres          an event's row and an upsert in one transaction, prepared; no HTTP
 */

import { execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chownSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { postJson } from "./load.ts";
import { startBenchService } from "./service.ts";
import type { Figure } from "./targets.ts";

const run = promisify(execFile);

const CLIENTS = 64;
const KEYS = 100_000;
const VALUE_BYTES = 64;
const VALUE_HEX = "a5".repeat(VALUE_BYTES);
const READY_MS = 30_000;
const LOOK_MS = 100;
const MS_OF = { us: 0.001, ms: 1, s: 1000 } as const;
/** redis-benchmark takes a number of requests: so many a second are asked for. */
const REDIS_REQUESTS = 20_000;
/** The transactions whose time pgbench logs, of all. */
const PGBENCH_SAMPLED = 0.1;
const PUT_OF_REDIS = 1.2;
const P99_OF_REDIS = 2;

interface Measured {
  readonly rate: number;
  readonly p99Ms: number;
}

interface Peer {
  measure(seconds: number): Promise<Measured>;
  stop(): Promise<void>;
}

/** Peers by name; null: the machine does not have it. */
const PEERS: Readonly<Record<string, (folder: string) => Promise<Peer | null>>> = {
  mapledger: startMapledger,
  "Redis, AOF always": startRedis,
  etcd: startEtcd,
  PostgreSQL: startPostgres,
};

/** Measures all peers in turns. */
export async function* peers(rounds: number, seconds: number): AsyncIterable<readonly Figure[]> {
  const folder = mkdtempSync(join(tmpdir(), "mapledger-bench-"));
  const started = new Map<string, Peer>();
  try {
    for (const [name, start] of Object.entries(PEERS)) {
      const peer = await start(folder);
      if (peer === null) process.stderr.write(`${name} is not measured: this machine does not have it\n`);
      else started.set(name, peer);
    }
    for (let round = 1; round <= rounds; round++) {
      process.stderr.write(`peers, round ${round} of ${rounds}\n`);
      const measured = new Map<string, Measured>();
      for (const [name, peer] of started) measured.set(name, await peer.measure(seconds));
      yield figuresOf(measured);
    }
  } finally {
    for (const peer of started.values()) await peer.stop();
    rmSync(folder, { recursive: true });
  }
}

function figuresOf(measured: ReadonlyMap<string, Measured>): readonly Figure[] {
  const own = measured.get("mapledger") as Measured;
  return [...measured].flatMap(([name, { rate, p99Ms }]) => {
    const row = `${CLIENTS} clients write, ${name}`;
    const figures: Figure[] = [
      { name: `${row}, /s`, figure: rate },
      { name: `${row}, p99 ms`, figure: p99Ms },
    ];
    if (name === "mapledger") return figures;
    const [ratio, p99Ratio] = [own.rate / rate, own.p99Ms / p99Ms];
    const isRedis = name === "Redis, AOF always";
    figures.push(
      { name: `${row}: mapledger's rate of it`, figure: ratio, ...(isRedis && { target: { least: PUT_OF_REDIS } }) },
      {
        name: `${row}: mapledger's p99 of it`,
        figure: p99Ratio,
        ...(isRedis && { target: { most: P99_OF_REDIS } }),
        ...(name === "etcd" && { target: { most: 1 } }),
      },
    );
    return figures;
  });
}

async function startMapledger(folder: string): Promise<Peer | null> {
  if (!isThere("wrk")) return null;
  const service = await startBenchService("off");
  const { id } = await postJson(`${service.url}/v1/sessions`, { name: "bench", ttl_seconds: 86_400 });
  const map = { map_type: "BPF_MAP_TYPE_HASH", key_size: 8, value_size: VALUE_BYTES, max_entries: KEYS };
  const { fd } = await postJson(`${service.url}/v1/sessions/${id}/maps`, map);
  const script = join(folder, "mapledger.lua");
  writeFileSync(
    script,
    `local body = '{"value":"${VALUE_HEX}"}'
local headers = { ["content-type"] = "application/json" }
function request()
  local path = string.format("/v1/sessions/${id}/fds/${fd}/elements/%016x", math.random(0, ${KEYS - 1}))
  return wrk.format("PUT", path, headers, body)
end\n`,
  );
  return { measure: (seconds) => byWrk(service.url, script, seconds), stop: () => service.stop() };
}

async function startRedis(folder: string): Promise<Peer | null> {
  if (!isThere("redis-server") || !isThere("redis-benchmark")) return null;
  const port = await freePort();
  const settings = { port, dir: folder, bind: "127.0.0.1", save: "", appendonly: "yes", appendfsync: "always" };
  const server = spawn("redis-server", words(settings), { stdio: "ignore" });
  await until("redis-server", async () =>
    (await run("redis-cli", ["-p", `${port}`, "ping"])).stdout.startsWith("PONG"),
  );
  return {
    async measure(seconds) {
      const asked = { c: CLIENTS, n: seconds * REDIS_REQUESTS, d: VALUE_BYTES, r: KEYS, t: "set", p: port };
      const args = Object.entries(asked).flatMap(([name, value]) => [`-${name}`, `${value}`]);
      const { stdout } = await run("redis-benchmark", [...args, "--csv"]);
      const [names = "", figures = ""] = stdout.trim().split("\n");
      const at = (name: string): number => {
        const column = names.split(",").indexOf(`"${name}"`);
        return Number(figures.split(",")[column]?.replaceAll('"', ""));
      };
      return { rate: at("rps"), p99Ms: at("p99_latency_ms") };
    },
    stop: () => ended(server),
  };
}

async function startEtcd(folder: string): Promise<Peer | null> {
  if (!isThere("etcd") || !isThere("wrk")) return null;
  const url = `http://127.0.0.1:${await freePort()}`;
  const peerUrl = `http://127.0.0.1:${await freePort()}`;
  const settings = {
    "data-dir": join(folder, "etcd"),
    "listen-client-urls": url,
    "advertise-client-urls": url,
    "listen-peer-urls": peerUrl,
    "initial-advertise-peer-urls": peerUrl,
    "initial-cluster": `default=${peerUrl}`,
    "log-level": "error",
  };
  const server = spawn("etcd", words(settings), { stdio: "ignore" });
  await until("etcd", async () => (await fetch(`${url}/health`)).ok);
  const script = join(folder, "etcd.lua");
  const value = Buffer.alloc(VALUE_BYTES, 0xa5).toString("base64");
  // A key of 8 digits is 12 digits of base64, written here by threes of bytes.
  writeFileSync(
    script,
    `local digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local function base64(text)
  return (text:gsub("...", function(three)
    local a, b, c = three:byte(1, 3)
    local n = a * 65536 + b * 256 + c
    local function digit(shift) local at = math.floor(n / shift) % 64 + 1; return digits:sub(at, at) end
    return digit(262144) .. digit(4096) .. digit(64) .. digit(1)
  end))
end
local headers = { ["content-type"] = "application/json" }
function request()
  local key = base64(string.format("%09d", math.random(0, ${KEYS - 1})))
  return wrk.format("POST", "/v3/kv/put", headers, '{"key":"' .. key .. '","value":"${value}"}')
end\n`,
  );
  return { measure: (seconds) => byWrk(url, script, seconds), stop: () => ended(server) };
}

/** PostgreSQL does not run as root: it runs as the user that its package has made. */
async function startPostgres(): Promise<Peer | null> {
  const [programs] = globSync("/usr/lib/postgresql/*/bin").sort().reverse();
  const user = userNamed("postgres");
  if (programs === undefined || user === null || !isThere(join(programs, "pgbench"))) return null;
  const program = (name: string): string => join(programs, name);
  const home = mkdtempSync(join(tmpdir(), "mapledger-bench-"));
  chownSync(home, user.uid, user.gid);
  const data = join(home, "data");
  await run(program("initdb"), ["-D", data, "-A", "trust", "-U", "postgres"], user);
  const port = await freePort();
  const args = ["-D", data, "-p", `${port}`, "-k", home, "-h", "127.0.0.1"];
  const server = spawn(program("postgres"), args, { ...user, stdio: "ignore" });
  const at = ["-h", "127.0.0.1", "-p", `${port}`, "-U", "postgres"];
  const tables = `CREATE TABLE events (seq bigserial PRIMARY KEY, time timestamptz DEFAULT now(), key bytea, value bytea);
CREATE TABLE elements (key bytea PRIMARY KEY, value bytea);`;
  await until("postgres", async () => (await run(program("psql"), [...at, "-c", "SELECT 1"])).stdout !== "");
  await run(program("psql"), [...at, "-c", tables]);
  const script = join(home, "put.sql");
  writeFileSync(
    script,
    `\\set key random(0, ${KEYS - 1})
WITH event AS (INSERT INTO events (key, value) VALUES (int8send(:key), '\\x${VALUE_HEX}') RETURNING key, value)
INSERT INTO elements SELECT key, value FROM event ON CONFLICT (key) DO UPDATE SET value = excluded.value;\n`,
  );
  return {
    async measure(seconds) {
      const log = join(home, "log");
      const asked = ["-n", "-c", `${CLIENTS}`, "-j", "1", "-M", "prepared", "-T", `${seconds}`, "-f", script];
      const logged = ["-l", `--log-prefix=${log}`, `--sampling-rate=${PGBENCH_SAMPLED}`];
      const { stdout } = await run(program("pgbench"), [...at, ...asked, ...logged, "postgres"]);
      const times = globSync(`${log}*`).flatMap((file) => {
        const lines = readFileSync(file, "utf8").trim().split("\n");
        rmSync(file);
        return lines.map((line) => Number(line.split(" ")[2]) * MS_OF.us);
      });
      times.sort((a, b) => a - b);
      return {
        rate: Number(stdout.match(/^tps = ([\d.]+)/m)?.[1]),
        p99Ms: times[Math.floor(times.length * 0.99)] ?? Number.NaN,
      };
    },
    async stop() {
      await ended(server);
      rmSync(home, { recursive: true });
    },
  };
}

async function byWrk(url: string, script: string, seconds: number): Promise<Measured> {
  const { stdout } = await run("wrk", ["-t1", `-c${CLIENTS}`, `-d${seconds}s`, "--latency", "-s", script, url]);
  const refused = stdout.match(/Non-2xx or 3xx responses: \d+|Socket errors: .*/)?.[0];
  if (refused !== undefined) throw new Error(`loading ${url}: ${refused}`);
  const [, p99 = "", unit = "ms"] = stdout.match(/^ +99% +([\d.]+)(us|ms|s)$/m) ?? [];
  const rate = Number(stdout.match(/^Requests\/sec: +([\d.]+)$/m)?.[1]);
  return { rate, p99Ms: Number(p99) * MS_OF[unit as keyof typeof MS_OF] };
}

const words = (settings: Readonly<Record<string, string | number>>): string[] =>
  Object.entries(settings).flatMap(([name, value]) => [`--${name}`, `${value}`]);

function isThere(program: string): boolean {
  try {
    execFileSync("which", [program], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

function userNamed(name: string): { readonly uid: number; readonly gid: number } | null {
  const line = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .find((one) => one.startsWith(`${name}:`));
  const [, , uid, gid] = line?.split(":") ?? [];
  return uid === undefined ? null : { uid: Number(uid), gid: Number(gid) };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  return port;
}

async function until(name: string, isReady: () => Promise<boolean>): Promise<void> {
  const endMs = performance.now() + READY_MS;
  while (!(await isReady().catch(() => false))) {
    if (performance.now() > endMs) throw new Error(`${name} is not ready after ${READY_MS} ms`);
    await sleep(LOOK_MS);
  }
}

async function ended(server: ReturnType<typeof spawn>): Promise<void> {
  const exit = once(server, "exit");
  server.kill("SIGINT");
  await exit;
}
