import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Test } from "tap";
import { readState } from "../../src/data/state_reader.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { probe } from "../../src/native/probe.ts";
import { SqliteEventLog } from "../../src/sqlite/event_log.ts";
import { mapledger } from "./cli.ts";
import { hex, type Json } from "./ledger.ts";
import { u32, u64 } from "./mirror.ts";
import { type ServiceProcess, startService } from "./service_process.ts";

/** A bpffs that nobody else has, and the directory of pins on it. */
export function bpffs(test: Test): { fs: string; root: string } {
  const fs = mkdtempSync(join(tmpdir(), "mapledger-fs-"));
  execFileSync("mount", ["-t", "bpf", "bpf", fs], { stdio: "pipe" });
  test.teardown(() => {
    execFileSync("umount", ["-l", fs]);
    rmSync(fs, { recursive: true });
  });
  return { fs, root: `${fs}/ml` };
}

/** Why tests cannot have a bpffs of their own here; null: they can. */
export function unfitForMounts(): string | null {
  const refused = probe();
  if (refused !== null) return refused;
  const at = mkdtempSync(join(tmpdir(), "mapledger-fs-"));
  try {
    execFileSync("mount", ["-t", "bpf", "bpf", at], { stdio: "pipe" });
    execFileSync("umount", [at]);
    return null;
  } catch (error) {
    return `mounting a bpffs: ${(error as Error).message}`;
  } finally {
    rmSync(at, { recursive: true });
  }
}

/** A data directory, and the service on it. */
export class Data {
  readonly path = mkdtempSync(join(tmpdir(), "mapledger-data-"));
  readonly root: string;
  service: ServiceProcess | null = null;

  constructor(test: Test, root: string) {
    this.root = root;
    test.teardown(async () => {
      await this.service?.end("SIGKILL");
      rmSync(this.path, { recursive: true });
    });
  }

  async start(mode = "auto"): Promise<void> {
    const environment = { MAPLEDGER_DATA: this.path, MAPLEDGER_MIRROR: mode, MAPLEDGER_BPFFS: this.root };
    this.service = await startService(environment);
  }

  async stop(): Promise<void> {
    await this.service?.end("SIGTERM");
  }

  get said(): string {
    return JSON.stringify(this.service?.lines);
  }

  async must(method: string, path: string, body?: object): Promise<Json> {
    const headers = { "content-type": "application/json" };
    const init = body === undefined ? { method } : { method, headers, body: JSON.stringify(body) };
    const response = await fetch(`${this.service?.url}/v1${path}`, init);
    const answer = (await response.json()) as Json;
    if (response.status >= 300) throw new Error(`${method} ${path}: ${JSON.stringify(answer)}`);
    return answer;
  }

  /** A map with one element, 1: `value`; answers its id. */
  async map(value: number): Promise<number> {
    const session = await this.must("POST", "/sessions", { ttl_seconds: 3600 });
    const shape = { key_size: 4, value_size: 8, max_entries: 64, map_name: "routes" };
    const attr = { map_type: "BPF_MAP_TYPE_HASH", ...shape };
    const { map_id: map } = await this.must("POST", `/sessions/${session.id}/maps`, attr);
    await this.must("PUT", `/maps/${map}/elements/${hex(u32(1))}`, { value: hex(u64(value)) });
    return map as number;
  }

  /** What `mapledger` says, of this data directory and its directory of pins. */
  run(...words: readonly string[]): ReturnType<typeof mapledger> {
    return mapledger(...words, "--data", this.path, "--bpffs", this.root);
  }

  events(cmd: number): { caller: string; attr: Json }[] {
    const log = new SqliteEventLog(join(this.path, "events.sqlite"));
    const found = [...log.read(0)].map(({ command }) => command).filter((command) => command.cmd === cmd);
    log.close();
    return found as unknown as { caller: string; attr: Json }[];
  }

  undecided(): Promise<(boolean | undefined)[]> {
    return readState(this.path, ({ state }) => [...state.maps.from("")].map(([, map]) => map.undecided));
  }
}

/** Its fd. */
export function opened(bpf: Bpf, path: string): number {
  const fd = bpf.get(path);
  if (fd < 0) throw new Error(`opening ${path}: ${fd}`);
  return fd;
}

/** Of the map that is pinned at `path`; or a negative errno. */
export function valueAt(bpf: Bpf, path: string, key: number): number {
  const fd = opened(bpf, path);
  const value = Buffer.alloc(8);
  const ret = bpf.lookup(fd, u32(key), value);
  bpf.close(fd);
  return ret < 0 ? ret : Number(value.readBigUInt64LE(0));
}
