import { Agent, request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { postJson } from "./load.ts";

/** What PUTs took, in milliseconds. */
export interface Waits {
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly most: number;
}

const MAP = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 8, max_entries: 16 };
const KEY = "01000000";
const VALUE = JSON.stringify({ value: "2a00000000000000" });

/** A caller with a map of his own, who puts one element over one connection, again and again. */
export class Caller {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });
  readonly #element: string;
  readonly #headers: Record<string, string | number>;
  readonly #pauseMs: number;

  private constructor(element: string, headers: Record<string, string>, pauseMs: number) {
    this.#element = element;
    this.#headers = { ...headers, "content-type": "application/json", "content-length": VALUE.length };
    this.#pauseMs = pauseMs;
  }

  /** `pauseMs`: between an answer and the next PUT. */
  static async prepare(url: string, token?: string, pauseMs = 0): Promise<Caller> {
    const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const { id } = await postJson(`${url}/v1/sessions`, { name: "caller", ttl_seconds: 86_400 }, headers);
    const { fd } = await postJson(`${url}/v1/sessions/${id}/maps`, MAP, headers);
    return new Caller(`${url}/v1/sessions/${id}/fds/${fd}/elements/${KEY}`, headers, pauseMs);
  }

  /** The URL of the element. */
  get element(): string {
    return this.#element;
  }

  async putFor(seconds: number): Promise<Waits> {
    return waitsOf(await this.timesFor(seconds));
  }

  /** Each PUT's milliseconds. */
  async timesFor(seconds: number): Promise<number[]> {
    const end = performance.now() + seconds * 1000;
    return this.#times(() => performance.now() < end);
  }

  /** Puts until something is done, once at least. */
  async putBeside<T>(work: Promise<T>): Promise<readonly [Waits, T]> {
    let isDone = false;
    const done = work.finally(() => {
      isDone = true;
    });
    done.catch(() => {});
    const times = await this.#times(() => !isDone);
    return [waitsOf(times), await done];
  }

  close(): void {
    this.#agent.destroy();
  }

  async #times(isGoing: () => boolean): Promise<number[]> {
    const times: number[] = [];
    do {
      const started = performance.now();
      await this.#put();
      times.push(performance.now() - started);
      if (this.#pauseMs > 0) await sleep(this.#pauseMs);
    } while (isGoing());
    return times;
  }

  #put(): Promise<void> {
    return new Promise((resolve, reject) => {
      const sent = request(this.#element, { method: "PUT", agent: this.#agent, headers: this.#headers }, (response) => {
        response.resume();
        response.on("end", () =>
          response.statusCode === 200 ? resolve() : reject(new Error(`PUT: ${response.statusCode}`)),
        );
      });
      sent.on("error", reject);
      sent.end(VALUE);
    });
  }
}

export function waitsOf(times: readonly number[]): Waits {
  const ascending = [...times].sort((a, b) => a - b);
  const at = (part: number): number =>
    ascending[Math.min(ascending.length - 1, Math.floor(ascending.length * part))] ?? 0;
  return { p50: at(0.5), p99: at(0.99), p999: at(0.999), most: at(1) };
}
