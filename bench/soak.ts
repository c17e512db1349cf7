/**
 * A mixed load for a long time: single writes and reads, batches of new elements that are deleted later, pages, filtered
 * events, reads of the past, watches that come and go, sessions and maps that are made and end. What the service takes
 * is compared between the first tenth of the time, when everything has been used once, and the last: only the log, and
 * what is made from it, may have grown. SOAK_MINUTES says for how long; an hour is what it is for.
 */

import { readdirSync, statSync } from "node:fs";
import { Agent, type IncomingMessage, request } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { waitsOf } from "./caller.ts";
import { anonymousMib } from "./flight.ts";
import { startBenchService } from "./service.ts";
import { median } from "./statistics.ts";
import type { Figure } from "./targets.ts";

const PART = 0.1;
const LOOK_MS = 1000;
const MIB = 1024 * 1024;
const KEYS = 10_000;
const BATCH = 1000;
const WRITERS = 8;
const HASH = { map_type: "BPF_MAP_TYPE_HASH", key_size: 8, value_size: 64, max_entries: 10 * KEYS, map_flags: 1 };
const VALUE = "a5".repeat(64);
const WAL = /-wal$/;

/** What a look at the service found. */
interface Look {
  readonly atMs: number;
  readonly anonymousMib: number;
  readonly descriptors: number;
  readonly walMib: number;
  readonly diskBytes: number;
  readonly seq: number;
  /** Of the writers' PUTs since the look before, in ms. */
  readonly p99Ms: number;
}

export async function soak(minutes: number): Promise<readonly Figure[]> {
  const service = await startBenchService("off");
  const load = new Load(service.url);
  try {
    await load.prepare();
    const looks: Look[] = [];
    const began = performance.now();
    const works = load.start();
    const lasts = minutes * 60_000;
    while (performance.now() - began < lasts) {
      await sleep(LOOK_MS);
      looks.push({ atMs: performance.now() - began, ...look(service), seq: load.seq, p99Ms: load.takeP99() });
    }
    await works.stop();
    return compared(looks, lasts, load.failures);
  } finally {
    load.end();
    await service.stop();
  }
}

function compared(looks: readonly Look[], lasts: number, failures: number): readonly Figure[] {
  // The second tenth: in the first, everything is used for the first time.
  const first = looks.filter(({ atMs }) => atMs >= lasts * PART && atMs < lasts * 2 * PART);
  const last = looks.filter(({ atMs }) => atMs >= lasts * (1 - PART));
  const of = (part: readonly Look[], kind: keyof Look): number => median(part.map((one) => one[kind]));
  const grown = (kind: keyof Look): number => of(last, kind) - of(first, kind);
  const [start, end] = [first[0] as Look, last.at(-1) as Look];
  const middle = looks[looks.length >> 1] as Look;
  const perEvent = (from: Look, to: Look): number => (to.diskBytes - from.diskBytes) / (to.seq - from.seq);
  return [
    { name: "soak, events", figure: end.seq },
    { name: "soak, answers that were no success", figure: failures, target: { most: 0 } },
    { name: "soak, RssAnon MiB at its beginning", figure: of(first, "anonymousMib") },
    { name: "soak, RssAnon MiB more at its end", figure: grown("anonymousMib"), target: { most: 50 } },
    { name: "soak, descriptors more at its end", figure: grown("descriptors"), target: { most: 5 } },
    { name: "soak, WAL MiB at most", figure: Math.max(...looks.map(({ walMib }) => walMib)), target: { most: 64 } },
    { name: "soak, disk bytes an event, first half", figure: perEvent(start, middle) },
    {
      name: "soak, disk bytes an event, second half of first",
      figure: perEvent(middle, end) / perEvent(start, middle),
      target: { most: 1.2 },
    },
    { name: "soak, PUT p99 ms at its beginning", figure: of(first, "p99Ms") },
    {
      name: "soak, PUT p99 at its end, of that",
      figure: of(last, "p99Ms") / of(first, "p99Ms"),
      target: { most: 1.5 },
    },
  ];
}

function look({ pid, data }: { readonly pid: number; readonly data: string }): Omit<Look, "atMs" | "seq" | "p99Ms"> {
  const files = readdirSync(data, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  let [wal, disk] = [0, 0];
  for (const { parentPath, name } of files) {
    // Files of runs come and go.
    const bytes = statSync(join(parentPath, name), { throwIfNoEntry: false })?.size ?? 0;
    if (WAL.test(name)) wal += bytes;
    else disk += bytes;
  }
  const descriptors = readdirSync(`/proc/${pid}/fd`).length;
  return { anonymousMib: anonymousMib(pid), descriptors, walMib: wal / MIB, diskBytes: disk };
}

interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

/** The clients. */
class Load {
  readonly #url: string;
  readonly #agent = new Agent({ keepAlive: true });
  #session = 0;
  #map = "";
  #waits: number[] = [];
  #isOver = false;
  /** The last event that an answer has named. */
  seq = 0;
  failures = 0;

  constructor(url: string) {
    this.#url = url;
  }

  async prepare(): Promise<void> {
    const { body } = await this.#ask("POST", "/v1/sessions", { name: "soak", ttl_seconds: 604_800 });
    this.#session = body.id as number;
    this.#map = await this.#newMap(this.#session);
    await this.#batch(this.#map, "update", 0, KEYS);
  }

  /** Starts the clients. */
  start(): { stop(): Promise<void> } {
    const each = (work: (turn: number) => Promise<unknown>): Promise<void> => this.#repeat(work);
    const works = [
      ...Array.from({ length: WRITERS }, (_, writer) => each((turn) => this.#put(writer * 7919 + turn))),
      each((turn) => this.#ask("GET", `${this.#map}/elements/${key(turn % KEYS)}`)),
      each((turn) => this.#comeAndGo(turn)),
      each(() => this.#ask("GET", `${this.#map}/elements?limit=1000`)),
      each(() => this.#ask("GET", "/v1/events?limit=100&cmd=BPF_MAP_DELETE_BATCH&order=desc")),
      each((turn) => this.#ask("GET", `/v1/maps/1/elements/${key(turn % KEYS)}?at=${Math.max(1, this.seq >> 1)}`)),
      each(() => this.#watch()),
      each(() => this.#shortSession()),
    ];
    return {
      stop: async () => {
        this.#isOver = true;
        await Promise.all(works);
      },
    };
  }

  end(): void {
    this.#agent.destroy();
  }

  takeP99(): number {
    const { p99 } = waitsOf(this.#waits);
    this.#waits = [];
    return p99;
  }

  async #repeat(work: (turn: number) => Promise<unknown>): Promise<void> {
    for (let turn = 0; !this.#isOver; turn++) {
      await work(turn);
      await sleep(0);
    }
  }

  async #put(number: number): Promise<void> {
    const began = performance.now();
    await this.#ask("PUT", `${this.#map}/elements/${key(number % KEYS)}`, { value: VALUE });
    this.#waits.push(performance.now() - began);
  }

  /** A batch of new elements, which the next turn deletes. */
  async #comeAndGo(turn: number): Promise<void> {
    const from = KEYS * (1 + ((turn >> 1) % 8));
    await this.#batch(this.#map, turn % 2 === 0 ? "update" : "delete", from, BATCH);
  }

  #batch(map: string, kind: "update" | "delete", from: number, count: number): Promise<Answer> {
    const keys = Array.from({ length: count }, (_, at) => key(from + at));
    const body = kind === "delete" ? { keys } : { elements: keys.map((one) => ({ key: one, value: VALUE })) };
    return this.#ask("POST", `${map}/batch/${kind}`, body);
  }

  /** Follows the map for a hundred messages. */
  #watch(): Promise<void> {
    return new Promise((resolve) => {
      const headers = { accept: "application/x-ndjson" };
      const sent = request(`${this.#url}/v1/maps/1/watch`, { agent: false, headers }, (response) => {
        if (response.statusCode !== 200) this.failures++;
        let lines = 0;
        response.on("data", (piece: Buffer) => {
          lines += piece.toString().split("\n").length;
          if (lines > 100 || this.#isOver) sent.destroy();
        });
        response.on("error", () => {});
      });
      sent.on("error", () => {});
      sent.on("close", resolve);
      sent.end();
    });
  }

  /** A session that makes a map, fills it and ends, which frees the map. */
  async #shortSession(): Promise<void> {
    const { body } = await this.#ask("POST", "/v1/sessions", { name: "short" });
    const map = await this.#newMap(body.id as number);
    await this.#batch(map, "update", 0, BATCH);
    await this.#ask("DELETE", `/v1/sessions/${body.id}`);
  }

  async #newMap(session: number): Promise<string> {
    const { body } = await this.#ask("POST", `/v1/sessions/${session}/maps`, HASH);
    return `/v1/sessions/${session}/fds/${body.fd}`;
  }

  #ask(method: string, path: string, body?: object): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const headers = body === undefined ? {} : { "content-type": "application/json" };
      const sent = request(`${this.#url}${path}`, { method, agent: this.#agent, headers }, (response) => {
        read(response).then((text) => {
          const status = response.statusCode ?? 0;
          if (status >= 300) this.failures++;
          this.seq = Math.max(this.seq, Number(response.headers["mapledger-seq"] ?? 0));
          resolve({ status, body: status >= 300 || text === "" ? {} : JSON.parse(text) });
        }, reject);
      });
      sent.on("error", reject);
      sent.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }
}

async function read(response: IncomingMessage): Promise<string> {
  let text = "";
  for await (const piece of response.setEncoding("utf8")) text += piece;
  return text;
}

function key(number: number): string {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(number);
  return bytes.toString("hex");
}
