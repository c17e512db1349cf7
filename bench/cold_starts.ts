import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ServiceProcess, startService } from "../test/support/service_process.ts";
import { load } from "./load.ts";
import { HASH_KEYS, type MadeLog } from "./log_maker.ts";
import type { Figure } from "./targets.ts";

const KEY_BYTES = 8;
const VALUE = Buffer.alloc(64, 0xa5).toString("hex");
const EMPTY_TIMES = 8;
const KILLED_TIMES = 12;
/** What may be done again after a kill is bounded. */
const AGAIN_MS = 300;

/** How long node takes for an empty program: what a start is compared with. */
export function bareStart(): number {
  const started = performance.now();
  execFileSync(process.execPath, ["-e", "0"], { stdio: "ignore" });
  return performance.now() - started;
}

/** A start on an empty directory, until the service is ready. */
export async function emptyStart(): Promise<readonly Figure[]> {
  const data = mkdtempSync(join(tmpdir(), "mapledger-bench-"));
  const bare = bareStart();
  const [ms, service] = await timed(data);
  await service.end("SIGTERM");
  rmSync(data, { recursive: true });
  return [
    { name: "start, empty directory, ms", figure: ms },
    { name: "start, empty directory, of node -e 0", figure: ms / bare, target: { most: EMPTY_TIMES } },
  ];
}

/** A start after a kill under a load of PUTs on a long log, whose state has been made. */
export async function killedStart({ folder, events, hashMaps }: MadeLog): Promise<readonly Figure[]> {
  const [, before] = await timed(folder);
  const path = `/v1/maps/${hashMaps[0]}/elements`;
  const requests = Array.from({ length: 1000 }, (_, at) => {
    const key = Buffer.alloc(KEY_BYTES);
    key.writeUInt32LE((at * 7919) % HASH_KEYS);
    const headers = { "content-type": "application/json" };
    return {
      method: "PUT" as const,
      path: `${path}/${key.toString("hex")}`,
      headers,
      body: JSON.stringify({ value: VALUE }),
    };
  });
  const loading = load({ url: before.url, connections: 64, seconds: 3, requests, missing: true }).catch(() => {});
  setTimeout(() => before.end("SIGKILL"), 2000);
  await loading;
  const bare = bareStart();
  const [ms, service] = await timed(folder);
  await service.end("SIGTERM");
  return [
    { name: `start, killed on ${events} events, ms`, figure: ms },
    {
      name: `start, killed on ${events} events, less ${AGAIN_MS} ms, of node -e 0`,
      figure: (ms - AGAIN_MS) / bare,
      target: { most: KILLED_TIMES },
    },
  ];
}

/** Milliseconds from the process's start until the service is ready. */
async function timed(data: string): Promise<[ms: number, service: ServiceProcess]> {
  const started = performance.now();
  const service = await startService({ MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off" });
  return [performance.now() - started, service];
}
