import { rmSync } from "node:fs";
import { join } from "node:path";
import { mapledger } from "../test/support/cli.ts";
import { startService } from "../test/support/service_process.ts";
import type { MadeLog } from "./log_maker.ts";

/** Makes a log's tree, and signs it; answers events a second, from the first request for a checkpoint on. */
export async function hashTree({ folder, events }: MadeLog): Promise<number> {
  rmSync(join(folder, "tree.sqlite"), { force: true });
  const service = await startService({ MAPLEDGER_DATA: folder, MAPLEDGER_MIRROR: "off" });
  const started = performance.now();
  while ((await fetch(`${service.url}/checkpoint`)).status !== 200);
  const ms = performance.now() - started;
  await service.end("SIGTERM");
  return (events * 1000) / ms;
}

/** `mapledger verify` of a log with its tree and its state, as a process: events a second. */
export async function verify({ folder, events }: MadeLog): Promise<number> {
  const started = performance.now();
  const ran = await mapledger("verify", folder);
  if (ran.code !== 0) throw new Error(`verifying ${folder}: ${ran.stdout}${ran.stderr}`);
  return (events * 1000) / (performance.now() - started);
}

/** One start of the service with its state thrown away: events a second, from the process's start until it is ready. */
export async function rebuild({ folder }: MadeLog): Promise<number> {
  const service = await startService({ MAPLEDGER_DATA: folder, MAPLEDGER_MIRROR: "off" }, ["--rebuild"]);
  const { replayed, ms } = service.lines.find(({ url }) => url === service.url) as { replayed: number; ms: number };
  await service.end("SIGTERM");
  return (replayed * 1000) / ms;
}
