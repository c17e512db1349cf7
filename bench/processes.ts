import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Load, prepare } from "../test/support/load.ts";
import { startService } from "../test/support/service_process.ts";
import { timesToEnd } from "../test/support/session_ends.ts";

const KILLS = 20;

/** Milliseconds from the SIGKILL of processes to the ends of the sessions that live by them, each. */
export interface TimesToEnd {
  readonly idle: readonly number[];
  /** While others send commands. */
  readonly busy: readonly number[];
}

export async function killProcesses(): Promise<TimesToEnd> {
  const folder = mkdtempSync(join(tmpdir(), "mapledger-bench-"));
  const socket = join(folder, "socket");
  const service = await startService({
    MAPLEDGER_DATA: join(folder, "data"),
    MAPLEDGER_MIRROR: "off",
    MAPLEDGER_SOCKET: socket,
  });
  await prepare(service.url);
  const idle = await timesToEnd(socket, KILLS);
  const load = new Load(service.url, 16);
  await load.more(100);
  const busy = await timesToEnd(socket, KILLS);
  await load.stop();
  await service.end("SIGTERM");
  rmSync(folder, { recursive: true });
  return { idle, busy };
}
