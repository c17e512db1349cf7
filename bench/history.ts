import { startService } from "../test/support/service_process.ts";
import type { MadeLog } from "./log_maker.ts";

/** One start of the service with its state thrown away: events a second, from the process's start until it is ready. */
export async function rebuild({ folder }: MadeLog): Promise<number> {
  const service = await startService({ MAPLEDGER_DATA: folder, MAPLEDGER_MIRROR: "off" }, ["--rebuild"]);
  const { replayed, ms } = service.lines.find(({ url }) => url === service.url) as { replayed: number; ms: number };
  await service.end("SIGTERM");
  return (replayed * 1000) / ms;
}
