import { mapledger } from "../test/support/cli.ts";
import { startService } from "../test/support/service_process.ts";
import type { MadeLog } from "./log_maker.ts";

/**
 * Makes the tree of a log that no service has opened, and signs it; answers events a second, from the first request for a
 * checkpoint on. A log that has a key has had a tree, and begins no other.
 */
export async function hashTree({ folder, events }: MadeLog): Promise<number> {
  const service = await startService({ MAPLEDGER_DATA: folder, MAPLEDGER_MIRROR: "off" });
  const started = performance.now();
  await treeIsWhole(service.url);
  const ms = performance.now() - started;
  await service.end("SIGTERM");
  return (events * 1000) / ms;
}

/** Waits for the tree to be at the log's end. Throws if the service has none. */
export async function treeIsWhole(url: string): Promise<void> {
  for (;;) {
    const response = await fetch(`${url}/checkpoint`);
    const text = await response.text();
    if (response.ok) return;
    if (text.includes("log-contradicted")) throw new Error(text);
  }
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
