import { once } from "node:events";
import { Agent, request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import type { Attack } from "./attacker.ts";
import { type EngineInput, engineInputs } from "./engine_inputs.ts";
import { postJson } from "./load.ts";
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

/** In milliseconds. */
interface Waits {
  readonly p50: number;
  readonly p999: number;
  readonly most: number;
}

const VALUE = JSON.stringify({ value: "2a00000000000000" });
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
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  try {
    const single = worstInputs(await furnish(url)).map(({ name, ...one }) => ({ name, requests: [one] }));
    const rows: readonly EngineInput[] = [...single, ...(await engineInputs(url))];
    const { id } = await postJson(`${url}/v1/sessions`, { name: "other", ttl_seconds: 86_400 });
    const map = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 8, max_entries: 16 };
    const { fd } = await postJson(`${url}/v1/sessions/${id}/maps`, map);
    const path = `${url}/v1/sessions/${id}/fds/${fd}/elements/01000000`;
    for (let round = 0; round < rounds; round++)
      for (const { name: row, requests } of rows) {
        const without = await waits(agent, path, seconds);
        const attacker = new Attacker({
          url,
          requests: requests.map(({ body, ...one }) => ({ ...one, ...(body !== undefined && { body: body() }) })),
        });
        await attacker.begun;
        const meanwhile = await waits(agent, path, seconds);
        yield { row, without, meanwhile, statuses: await attacker.end() };
      }
  } finally {
    agent.destroy();
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

/** PUTs, one after the other. */
async function waits(agent: Agent, path: string, seconds: number): Promise<Waits> {
  const figures: number[] = [];
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) {
    const started = performance.now();
    await put(agent, path);
    figures.push(performance.now() - started);
  }
  figures.sort((a, b) => a - b);
  const at = (part: number): number => figures[Math.min(figures.length - 1, Math.floor(figures.length * part))] ?? 0;
  return { p50: at(0.5), p999: at(0.999), most: at(1) };
}

function put(agent: Agent, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json", "content-length": VALUE.length };
    const sent = request(path, { method: "PUT", agent, headers }, (response) => {
      response.resume();
      response.on("end", () =>
        response.statusCode === 200 ? resolve() : reject(new Error(`PUT: ${response.statusCode}`)),
      );
    });
    sent.on("error", reject);
    sent.end(VALUE);
  });
}
