import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Test } from "tap";
import { BPFFS } from "./bpffs.ts";
import { u32, u64 } from "./mirror.ts";
import { OWN_NAME } from "./own_name.ts";
import { type ServiceProcess, startService } from "./service_process.ts";

/** Far more than a scan takes, on a machine that does other things as well. */
const PATIENCE_MS = 120_000;

export interface Json {
  readonly [name: string]: unknown;
}

/** A service with the mirror on, and what there is to ask it. */
export class Ledger {
  readonly root: string;
  readonly data: string;
  #service: ServiceProcess | null = null;

  /** `root`: MAPLEDGER_BPFFS; left out: a directory of its own in the bpffs that all tests share. */
  constructor(t: Test, name: string, root = `${BPFFS}/mlledger${OWN_NAME}_${name}`) {
    this.root = root;
    this.data = mkdtempSync(join(tmpdir(), "mapledger-ledger-"));
    t.teardown(async () => {
      await this.#service?.end("SIGKILL");
      rmSync(this.data, { recursive: true });
      rmSync(this.root, { recursive: true, force: true });
    });
  }

  async start(
    args: readonly string[] = [],
    beside: Readonly<Record<string, string>> = {},
    run: readonly string[] = [],
  ): Promise<void> {
    const own = { MAPLEDGER_DATA: this.data, MAPLEDGER_MIRROR: "required", MAPLEDGER_BPFFS: this.root };
    const environment = { ...own, ...beside };
    this.#service = await startService(environment, args, run);
  }

  async stop(): Promise<void> {
    await this.end("SIGTERM");
  }

  /** Ends it, and waits for that. */
  async end(signal: NodeJS.Signals): Promise<void> {
    await this.#service?.end(signal);
  }

  get url(): string {
    return this.#service?.url ?? "";
  }

  /** The messages of its log lines. */
  get said(): unknown[] {
    return this.#service?.lines.map(({ msg }) => msg) ?? [];
  }

  async ask(method: string, path: string, body?: object): Promise<{ status: number; json: Json }> {
    const headers = { "content-type": "application/json" };
    const init = body === undefined ? { method } : { method, headers, body: JSON.stringify(body) };
    const response = await fetch(`${this.#service?.url}/v1${path}`, init);
    return { status: response.status, json: (await response.json()) as Json };
  }

  /** What lies beside the API: JSON, or text. */
  async get(path: string): Promise<unknown> {
    const text = await (await fetch(`${this.#service?.url}${path}`)).text();
    return text.startsWith("{") ? JSON.parse(text) : text;
  }

  async must(method: string, path: string, body?: object): Promise<Json> {
    const { status, json } = await this.ask(method, path, body);
    if (status >= 300) throw new Error(`${method} ${path}: ${status} ${JSON.stringify(json)}${this.#lastSaid(status)}`);
    return json;
  }

  /** What a fault of the service's is, by its log. */
  #lastSaid(status: number): string {
    if (status !== 500) return "";
    return `\n${(this.#service?.lines ?? [])
      .slice(-5)
      .map((line) => JSON.stringify(line))
      .join("\n")}`;
  }

  /** Answers the new map's id. */
  async map(attr: object): Promise<number> {
    const session = await this.must("POST", "/sessions", { ttl_seconds: 3600 });
    const created = await this.must("POST", `/sessions/${session.id}/maps`, {
      map_type: "BPF_MAP_TYPE_HASH",
      key_size: 4,
      value_size: 8,
      max_entries: 64,
      ...attr,
    });
    return created.map_id as number;
  }

  put(map: number, key: number, value: number): Promise<Json> {
    return this.must("PUT", `/maps/${map}/elements/${hex(u32(key))}`, { value: hex(u64(value)) });
  }

  /** Elements as numbers, now or as of an event. */
  async elements(map: number, at?: number): Promise<Record<number, number>> {
    const { elements } = await this.must("GET", `/maps/${map}/elements${at === undefined ? "" : `?at=${at}`}`);
    const pairs = (elements as { key: string; value: string }[]).map(({ key, value }) => [
      Buffer.from(key, "hex").readUInt32LE(0),
      Number(Buffer.from(value, "hex").readBigUInt64LE(0)),
    ]);
    return Object.fromEntries(pairs);
  }

  async events(cmd: string): Promise<Json[]> {
    return (await this.must("GET", `/events?cmd=${cmd}`)).events as Json[];
  }

  async lastSeq(): Promise<number> {
    return (await this.must("GET", "/log")).last_seq as number;
  }
}

export function hex(bytes: Buffer): string {
  return bytes.toString("hex");
}

export async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const started = performance.now();
  while (!(await holds())) {
    if (performance.now() - started > PATIENCE_MS) throw new Error(`waiting until ${what}`);
    await sleep(20);
  }
}
