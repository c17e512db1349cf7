/**
 * The engine's questions to the thread of the past. They go through the service's thread, which is the one that talks
 * to both.
 */

import type { MessagePort } from "node:worker_threads";
import { OpenQuestions } from "../supervisor/correspondence.ts";
import type { Asker } from "../supervisor/protocol.ts";
import { EventsArchived } from "./archives.ts";
import type { Lagging } from "./ports.ts";
import { ENGINE, type EngineInquiries, type ToEngine } from "./protocol.ts";
import type { PastOfMaps, Stale, Window } from "./windows.ts";

/** The past of maps, for the engine's thread. */
export class AskedPast implements PastOfMaps {
  readonly #past: Asker<EngineInquiries>;

  constructor(port: MessagePort) {
    const open = new OpenQuestions<EngineInquiries>(ENGINE, (message) => port.postMessage(message));
    this.#past = open;
    port.on("message", (message: ToEngine) => {
      if (!("say" in message) && !("name" in message)) open.receive(message);
    });
  }

  async since(map: number, seq: number): Promise<Window> {
    const answer = await unlessArchived(this.#past.ask("lagging", { map, after: seq }));
    if (answer === null || answer === "born") return answer;
    return answer.map(
      ({ key, before }): Lagging => ({
        key: Buffer.from(key, "hex"),
        before: before === null ? null : Buffer.from(before, "hex"),
      }),
    );
  }

  stood(seq: number): Promise<{ readonly maps: readonly number[]; readonly pins: Stale["pins"] } | null> {
    return unlessArchived(this.#past.ask("stood", { seq }));
  }
}

/** null: the events are archived, and the answer is unknown. No difference counts as a lag then. */
async function unlessArchived<Answer>(asked: Promise<Answer>): Promise<Answer | null> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof EventsArchived) return null;
    throw error;
  }
}
