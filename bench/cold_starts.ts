import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ServiceProcess, startService } from "../test/support/service_process.ts";
import { requests } from "./elements.ts";
import { load } from "./load.ts";
import { HASH_KEYS, type MadeLog } from "./log_maker.ts";
import type { Figure } from "./targets.ts";

export const COMMAND_LINE = new URL("../src/cli/mapledger.js", import.meta.url).pathname;
const LOOKUP_TIMES = 3;
const EMPTY_TIMES = 8;
const KILLED_TIMES = 12;
/** What may be done again after a kill is bounded. */
const AGAIN_MS = 300;

/** How long a program of node takes. */
export function nodeMs(words: readonly string[]): number {
  const started = performance.now();
  execFileSync(process.execPath, words, { stdio: "ignore" });
  return performance.now() - started;
}

/** How long node takes for an empty program: what a start is compared with. */
export const bareStart = (): number => nodeMs(["-e", "0"]);

/** What a command of the command line takes against a running service; within three times an empty program. */
export async function lookup(rounds: number): Promise<readonly Figure[]> {
  const data = mkdtempSync(join(tmpdir(), "mapledger-bench-"));
  const service = await startService({ MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off" });
  const words = (text: string): readonly string[] => [COMMAND_LINE, ...text.split(" "), "--url", service.url];
  nodeMs(words("map create type hash key 4 value 4 entries 16 name ports"));
  nodeMs(words("map update name ports key 80 0 0 0 value 42 0 0 0"));
  const looked = words("map lookup name ports key 80 0 0 0");
  nodeMs(looked);
  const figures: Figure[] = [];
  for (let round = 1; round <= rounds; round++) {
    const [bare, asked] = [bareStart(), nodeMs(looked)];
    figures.push({ name: "mapledger map lookup ms", figure: asked });
    figures.push({ name: "mapledger map lookup, of node -e 0", figure: asked / bare, target: { most: LOOKUP_TIMES } });
  }
  await service.end("SIGTERM");
  rmSync(data, { recursive: true });
  return figures;
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
  const puts = requests(`/v1/maps/${hashMaps[0]}`, "PUT", HASH_KEYS);
  const loading = load({ url: before.url, connections: 64, seconds: 3, requests: puts, missing: true }).catch(() => {});
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
