import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import type { Attack } from "./attacker.ts";
import { Caller, type Waits } from "./caller.ts";
import { type EngineInput, engineInputs } from "./engine_inputs.ts";
import { startBenchService } from "./service.ts";
import { furnish, worstInputs } from "./worst_inputs.ts";

/** What another caller waits for his PUTs while somebody sends one input over and over, and without that, one right after the other. */
export interface Stall {
  readonly row: string;
  readonly without: Waits;
  readonly meanwhile: Waits;
  /** How the input was answered, by status. */
  readonly statuses: Readonly<Record<number, number>>;
}

const PATIENCE_MS = 60_000;

/** So many rounds over all inputs; each is sent for so many seconds. */
export async function* stalls(
  mirror: "off" | "required",
  { rounds, seconds }: { readonly rounds: number; readonly seconds: number },
): AsyncGenerator<Stall> {
  const service = await startBenchService(mirror, {
    MAPLEDGER_CALLER_SESSIONS_MAX: "0",
    MAPLEDGER_CALLER_BYTES_MAX: "0",
  });
  const { url } = service;
  const other = await Caller.prepare(url);
  try {
    const single = worstInputs(await furnish(url)).map(({ name, ...one }) => ({ name, requests: [one] }));
    const rows: readonly EngineInput[] = [...single, ...(await engineInputs(url))];
    for (let round = 0; round < rounds; round++)
      for (const { name: row, requests } of rows) {
        const without = await other.putFor(seconds);
        const attacker = new Attacker({
          url,
          requests: requests.map(({ body, ...one }) => ({ ...one, ...(body !== undefined && { body: body() }) })),
        });
        await attacker.begun;
        const meanwhile = await other.putFor(seconds);
        yield { row, without, meanwhile, statuses: await attacker.end() };
      }
  } finally {
    other.close();
    await service.stop();
  }
}

/** A thread that sends an attack's requests. */
class Attacker {
  readonly #worker: Worker;
  readonly #statuses: Record<number, number> = {};
  readonly begun: Promise<unknown>;

  constructor(attack: Attack) {
    this.#worker = new Worker(new URL("attacker.ts", import.meta.url), { workerData: attack });
    this.#worker.on("message", (status: number) => {
      this.#statuses[status] = (this.#statuses[status] ?? 0) + 1;
    });
    this.begun = once(this.#worker, "online");
  }

  /** Behind the request that is under way. Answers how its requests were answered. */
  async end(): Promise<Readonly<Record<number, number>>> {
    this.#worker.postMessage("stop");
    await Promise.race([once(this.#worker, "exit"), sleep(PATIENCE_MS)]);
    await this.#worker.terminate();
    return this.#statuses;
  }
}
