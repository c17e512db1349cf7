import { readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { startBenchService } from "./service.ts";
import { furnish, type WorstInput, worstInputs } from "./worst_inputs.ts";

/** Where the probe in the service writes; it is asked by this signal. */
const ASK = "SIGUSR2";
const PROBE = new URL("hold_probe.ts", import.meta.url).pathname;

export interface Hold {
  readonly name: string;
  readonly status: number;
  /** The most CPU that the service's thread took for one thing, and how long the request took. */
  readonly holdMs: number;
  readonly requestMs: number;
}

/** How long the service's thread is held by the worst inputs of its routes, each sent alone. */
export async function* holds(): AsyncGenerator<Hold> {
  const file = join(tmpdir(), `mapledger-holds-${process.pid}`);
  const service = await startBenchService("off", {
    NODE_OPTIONS: `--import=${PROBE}`,
    HOLD_PROBE_FILE: file,
  });
  const longest = async (): Promise<number> => {
    rmSync(file, { force: true });
    process.kill(service.pid, ASK);
    for (;;) {
      await sleep(5);
      try {
        return Number(JSON.parse(readFileSync(file, "utf8")));
      } catch {
        // It is not there yet.
      }
    }
  };
  try {
    for (const input of worstInputs(await furnish(service.url))) {
      await sleep(200);
      await longest();
      const begun = performance.now();
      const status = await send(service.url, input);
      const requestMs = performance.now() - begun;
      yield { name: input.name, status, holdMs: await longest(), requestMs };
    }
  } finally {
    rmSync(file, { force: true });
    await service.stop();
  }
}

async function send(url: string, { method, path, headers = {}, body }: WorstInput): Promise<number> {
  const init = body === undefined ? {} : { body: body() as never };
  const response = await fetch(`${url}${path}`, { method, headers, ...init });
  const reader = response.body?.getReader();
  while (reader !== undefined && !(await reader.read()).done);
  return response.status;
}
