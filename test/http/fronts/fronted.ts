/** HTTP threads before a service of a test: the test's own thread accepts no connection of the port. */

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { MessagePort, Worker } from "node:worker_threads";
import type { Test } from "tap";
import type { Frames } from "../../../src/engine/frames.ts";
import { passedOnServer } from "../../../src/http/app.ts";
import { FRONT, Signs } from "../../../src/http/fronts/protocol.ts";
import { ThreadCounts } from "../../../src/http/fronts/thread_counts.ts";
import type { Refusals } from "../../../src/http/server/access.ts";
import { Bpf } from "../../../src/native/bpf.ts";
import { openBpf } from "../../../src/native/probe.ts";
import { Connections } from "../../../src/net/connections.ts";
import { HttpThreads } from "../../../src/service/http_threads.ts";
import type { Service } from "../service.ts";

const AF_INET = 2;
const SOCK_STREAM = 1;
const SOL_SOCKET = 1;
const SO_REUSEPORT = 15;
/** struct sockaddr_in: 0 u16 family, 2 u16 port (big-endian), 4 address. */
const ADDRESS_BYTES = 16;
const LOOPBACK = [127, 0, 0, 1];

/** A service behind HTTP threads. */
export interface Fronted {
  readonly url: string;
  readonly threads: HttpThreads;
  readonly counts: ThreadCounts;
  readonly signs: Signs;
  /** The threads that were started, also those that have died. */
  readonly workers: readonly Worker[];
  /** What they told the operator. */
  readonly reports: readonly string[];
  /** How many requests they have passed on. */
  readonly passed: number;
  /** Batches by them are not answered while this is set. */
  hold: boolean;
}

/** How a service listens, and the URL where it does. */
export type Way = readonly [by: string, (t: Test, service: Service) => Promise<string>];
export const WAYS: readonly Way[] = [
  ["by the service's thread", (_t, { app }) => app.listen({ port: 0, host: "127.0.0.1" })],
  ["by an HTTP thread", async (t, service) => (await fronted(t, service)).url],
];

/** Starts so many HTTP threads, which are closed when the test is over. */
export async function fronted(t: Test, service: Service, count = 1): Promise<Fronted> {
  const { parts } = service;
  const [socket, port] = reservedPort();
  const counts = new ThreadCounts({ threads: count + 1 }, 0);
  const signs = new Signs();
  signs.isReady = true;
  const workers: Worker[] = [];
  const reports: string[] = [];
  const start = FRONT.start.bind(FRONT);
  FRONT.start = (...given) => {
    const worker = start(...given);
    workers.push(worker);
    return worker;
  };
  const passedOn = passedOnServer(service.app, parts);
  let passed = 0;
  passedOn.on("request", () => passed++);
  const held: (() => void)[] = [];
  let hold = false;
  const connect = (engine: MessagePort): void => {
    engine.on("message", (batch: Frames) => {
      const run = (): void => {
        const replies = service.runBatch(batch);
        const { figures, seq } = service.engine;
        engine.postMessage({ say: "replies", ...replies, figures, seq }, [replies.frames]);
      };
      if (hold) held.push(run);
      else run();
    });
  };
  const threads = HttpThreads.start(
    {
      settings: { ...parts.settings, auth: parts.identity.takesAnonymous({} as never) ? "off" : "on" },
      at: { host: "127.0.0.1", port },
      passedOn,
      counts,
      signs,
      callers: service.callers,
      refusals: parts.refusals as Refusals,
      tls: () => null,
      connectionsMax: null,
      connect,
      report: (message) => reports.push(message),
    },
    count,
  );
  if (typeof threads === "string") throw new Error(threads);
  await listenersOf(port, count);
  const connections = new Connections({ server: service.app.server, close: async () => {} }, null, passedOn);
  t.teardown(async () => {
    await Promise.all([connections.close(), threads.close()]);
    bpf().close(socket);
    FRONT.start = start;
  });
  return {
    url: `http://127.0.0.1:${port}`,
    threads,
    counts,
    signs,
    workers,
    reports,
    get passed() {
      return passed;
    },
    get hold() {
      return hold;
    },
    set hold(is: boolean) {
      hold = is;
      if (!is) for (const run of held.splice(0)) run();
    },
  };
}

/** A socket that has a port of its own, on which others may listen. */
function reservedPort(): readonly [fd: number, port: number] {
  const libc = bpf();
  const fd = libc.libc("socket", AF_INET, SOCK_STREAM, 0);
  const on = Buffer.alloc(4);
  on.writeInt32LE(1);
  const address = Buffer.alloc(ADDRESS_BYTES);
  address.writeUInt16LE(AF_INET, 0);
  address.set(LOOPBACK, 4);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(ADDRESS_BYTES);
  for (const ret of [
    libc.libc("setsockopt", fd, SOL_SOCKET, SO_REUSEPORT, on, on.length),
    libc.libc("bind", fd, address, ADDRESS_BYTES),
    libc.libc("getsockname", fd, address, length),
  ])
    if (ret < 0) throw new Error(`no socket: ${ret}`);
  return [fd, address.readUInt16BE(2)];
}

/** Until so many sockets listen on a port. */
async function listenersOf(port: number, count: number): Promise<void> {
  const line = new RegExp(
    `^ *\\d+: [0-9A-F]+:${port.toString(16).toUpperCase().padStart(4, "0")} [0-9A-F:]+ 0A `,
    "gm",
  );
  while ((readFileSync("/proc/net/tcp", "utf8").match(line) ?? []).length < count) await sleep(5);
}

function bpf(): Bpf {
  const found = openBpf();
  if (!(found instanceof Bpf)) throw new Error(found.off);
  return found;
}
