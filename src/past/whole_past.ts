/**
 * The past from event 1 on. The thread of the past is asked first. If it answers EventsArchived, a second one is asked,
 * which has folded the whole log (`data/whole_log.ts`), if the archive is at hand (`archive/at_hand.ts`).
 */

import type { Moment } from "../codec/moments.ts";
import { EventsArchived } from "../engine/archives.ts";
import type { ArchivedReader, KeptReader } from "../engine/events.ts";
import type { Request } from "../engine/request.ts";
import type { ReadName, Reads } from "../engine/views.ts";
import type { Outcome } from "../syscall/outcome.ts";
import type { AsOf, Past } from "./past.ts";
import type { PastReadName, PastReads } from "./reads.ts";

/** The methods that both pasts have. */
type Door = Pick<Past, "run" | "query" | "ask">;

export interface WholePastParts {
  /** The past from the end of the archived events. */
  readonly kept: Door;
  /** The past from event 1, as far as the archive is available. It is asked if `kept` cannot answer alone. */
  readonly whole: Door;
  readonly events: Pick<KeptReader, "keptTimes">;
  readonly archived: Pick<ArchivedReader, "lastBefore">;
}

/** The past from event 1. Rejects with EventsArchived if the answer needs an archive that is not available. */
export class WholePast implements Door {
  readonly #parts: WholePastParts;

  constructor(parts: WholePastParts) {
    this.#parts = parts;
  }

  run(moment: Moment, request: Request): Promise<AsOf<Outcome>> {
    const { kept, whole } = this.#parts;
    return elseWhole(kept.run(moment, request), async () => whole.run(await this.#at(moment), request));
  }

  query<Name extends ReadName>(
    moment: Moment,
    name: Name,
    ask: Reads[Name]["ask"],
  ): Promise<AsOf<Reads[Name]["answer"]>> {
    const { kept, whole } = this.#parts;
    return elseWhole(kept.query(moment, name, ask), async () => whole.query(await this.#at(moment), name, ask));
  }

  async ask<Name extends PastReadName>(name: Name, ask: PastReads[Name]["ask"]): Promise<PastReads[Name]["answer"]> {
    const { kept, whole } = this.#parts;
    const wholly = async (): Promise<PastReads[Name]["answer"]> => whole.ask(name, await this.#askAt(ask));
    const answer = await elseWhole(kept.ask(name, ask), wholly);
    if (!isCut(answer)) return answer;
    return wholly().catch((error) => {
      if (error instanceof EventsArchived) return answer;
      throw error;
    });
  }

  /** Replaces the moments in a request by seqs. */
  async #askAt<Ask extends object>(ask: Ask): Promise<Ask> {
    const moments = Object.entries(ask).filter((field): field is [string, Moment] => isTime(field[1]));
    const seqs = await Promise.all(moments.map(async ([name, moment]) => [name, await this.#at(moment)] as const));
    return { ...ask, ...Object.fromEntries(seqs) };
  }

  /** Replaces a time by the last event at or before it. */
  async #at(moment: Moment): Promise<Moment> {
    if (!("timeUs" in moment)) return moment;
    const { events, archived } = this.#parts;
    const { until, untilSeq } = await events.keptTimes({ untilUs: moment.timeUs });
    return { seq: until ? untilSeq : await archived.lastBefore(moment.timeUs + 1) };
  }
}

async function elseWhole<Answer>(asked: Promise<Answer>, wholly: () => Promise<Answer>): Promise<Answer> {
  try {
    return await asked;
  } catch (error) {
    if (!(error instanceof EventsArchived)) throw error;
    return wholly().catch((other) => {
      // The log's own error names the oldest event that can be read without the archive.
      throw other instanceof EventsArchived ? error : other;
    });
  }
}

function isTime(value: unknown): value is Moment {
  return typeof value === "object" && value !== null && "timeUs" in value;
}

/** Whether an answer ends where archived events would continue it. */
function isCut(answer: unknown): boolean {
  return (
    typeof answer === "object" && answer !== null && typeof (answer as { oldestSeq?: unknown }).oldestSeq === "number"
  );
}
