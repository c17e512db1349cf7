/**
 * Questions of the engine to the thread of the past. They go through the service's thread, which is the one that talks
 * to both.
 */

import type { MessagePort } from "node:worker_threads";
import type { Lagging } from "./ports.ts";
import type { PastOfMaps, Stale, Window } from "./windows.ts";
import type { FromEngine, ToEngine } from "./worker.ts";

/** What the engine asks of the past, which another thread keeps; bytes are in hex. */
export type AskPast =
  | { readonly name: "lagging"; readonly ask: { readonly map: number; readonly after: number } }
  | { readonly name: "stood"; readonly ask: { readonly seq: number } };

/** An element that was changed after an event, as it was then, in hex. */
export interface LaggingHex {
  readonly key: string;
  readonly before: string | null;
}

interface Waiting {
  readonly resolve: (answer: never) => void;
  readonly reject: (error: Error) => void;
}

/** The past as the engine's thread sees it: asked through the service's thread. */
export class AskedPast implements PastOfMaps {
  readonly #port: MessagePort;
  readonly #asked = new Map<number, Waiting>();
  #last = 0;

  constructor(port: MessagePort) {
    this.#port = port;
    port.on("message", (message: ToEngine) => this.#receive(message));
  }

  async since(map: number, seq: number): Promise<Window> {
    const answer = await this.#ask<readonly LaggingHex[] | "born" | null>({
      name: "lagging",
      ask: { map, after: seq },
    });
    if (answer === null || answer === "born") return answer;
    return answer.map(
      ({ key, before }): Lagging => ({
        key: Buffer.from(key, "hex"),
        before: before === null ? null : Buffer.from(before, "hex"),
      }),
    );
  }

  stood(seq: number): Promise<{ readonly maps: readonly number[]; readonly pins: Stale["pins"] } | null> {
    return this.#ask({ name: "stood", ask: { seq } });
  }

  #ask<Answer>(ask: AskPast): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const id = ++this.#last;
      this.#asked.set(id, { resolve, reject });
      this.#port.postMessage({ kind: "past", id, ask } satisfies FromEngine);
    });
  }

  #receive(message: ToEngine): void {
    if (message.kind !== "past") return;
    const asked = this.#asked.get(message.id);
    this.#asked.delete(message.id);
    if (message.error === null) asked?.resolve(message.answer as never);
    else asked?.reject(new Error(message.error));
  }
}
