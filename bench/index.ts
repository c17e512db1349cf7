import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { startService } from "../test/support/service_process.ts";
import type { MadeIndex } from "./index_made.ts";
import type { MadeLog } from "./log_maker.ts";
import type { Figure } from "./targets.ts";

/** 8 times the 87,000 events a second of CPU that secondary B-trees in SQLite took. */
const EVENTS_A_CPU_SECOND = 700_000;
const BYTES_AN_EVENT = 20;
const ANSWER_MS = 1000;
const MADE = new URL("index_made.ts", import.meta.url).pathname;
/** No event has it. */
const FEW = "key=ffffffffffffffff&caller=nobody";

/** Makes the index of a log, as the reader's thread does; then asks a service that has none for events. */
export async function indexing({ folder, events }: MadeLog): Promise<Figure[]> {
  const data = `${folder}-index`;
  mkdirSync(data, { mode: 0o700 });
  cpSync(join(folder, "events.sqlite"), join(data, "events.sqlite"));
  try {
    return [...(await made(data, events)), ...(await asked(data, events))];
  } finally {
    rmSync(data, { recursive: true });
  }
}

/** In a process of its own, so that it has no heap but its own. */
async function made(data: string, events: number): Promise<Figure[]> {
  const said = execFileSync(process.execPath, [MADE, data], { encoding: "utf8" });
  const { cpuUs, wallMs, bytes } = JSON.parse(said) as MadeIndex;
  return [
    { name: "index, events/s of CPU", figure: (events * 1e6) / cpuUs, target: { least: EVENTS_A_CPU_SECOND } },
    { name: "index, events/s", figure: (events * 1000) / wallMs },
    { name: "index, bytes an event", figure: bytes / events, target: { most: BYTES_AN_EVENT } },
  ];
}

/** The state is there before the service is ready; the index is made while it is asked. */
async function asked(data: string, events: number): Promise<Figure[]> {
  const service = await startService({ MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off" });
  const started = performance.now();
  const query = `${service.url}/v1/events?${FEW}&before=${events + 1}`;
  const page = async (): Promise<{ prev: unknown }> => (await fetch(query)).json() as Promise<{ prev: unknown }>;
  let { prev } = await page();
  const firstMs = performance.now() - started;
  while (prev !== null) ({ prev } = await page());
  const wholeMs = performance.now() - started;
  await service.end("SIGTERM");
  return [
    { name: "first filtered question, no index, ms", figure: firstMs, target: { most: ANSWER_MS } },
    { name: "until one question is told all, ms", figure: wholeMs },
  ];
}
