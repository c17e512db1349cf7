/**
 * Sends each new checkpoint to the witnesses of MAPLEDGER_WITNESSES, and keeps their cosignatures in the tree. Each URL
 * has a loop of its own, beside all requests: a witness that does not answer delays nothing. The loop gets the newest
 * note from the tree's thread, with the proof that it continues the size that the witness has cosigned, and hands the
 * witness' answer back to be verified and kept. If a witness names another size, the next submission starts from that
 * size. If that size is larger than every checkpoint that this log has signed, it is an alarm.
 */

import type { WitnessAnswer } from "../client/witness.ts";
import { addCheckpointBody, readSizeBody, SIZE_TYPE } from "../tlog/add_checkpoint.ts";
import type { NoAnswer, Submission, WitnessStatus } from "../tree/ports.ts";
import type { WitnessAt } from "./witnesses_file.ts";

/** The methods of the tree that submissions need. */
interface WitnessedTree {
  submission(old: number): Promise<Submission | NoAnswer | null>;
  keepCosignatures(size: number, lines: string): Promise<readonly string[]>;
  cosignedBy(vkey: string): Promise<number>;
}

interface Connection {
  add(body: string): Promise<WitnessAnswer>;
  close(): Promise<void>;
}

/** A witness' new state, for the service's log. */
export interface WitnessTold {
  readonly url: string;
  readonly state: WitnessStatus["state"];
  readonly detail: string | null;
  readonly size: number;
}

export interface WitnessesParts {
  readonly tree: WitnessedTree;
  readonly connect: (url: URL) => Connection;
  /** Called when a witness' state or detail changes. */
  readonly tell: (told: WitnessTold) => void;
  /** The pause after the first failure. Each further failure doubles it, up to `pauseMostMs`. */
  readonly pauseMs?: number;
  readonly pauseMostMs?: number;
}

const PAUSE_MS = 1000;
const PAUSE_MOST_MS = 5 * 60_000;
/**
 * The number of submissions in a row that a witness may answer with another size each. After them it counts as failing.
 */
const TRIES = 4;
/** The longest time that a stop waits for the last checkpoint's cosignatures. */
const CLOSE_MS = 2000;

/** All witnesses; each has its own Submitter. */
export class Witnesses {
  readonly #all: readonly Submitter[];

  constructor(witnesses: readonly WitnessAt[], parts: WitnessesParts) {
    this.#all = witnesses.map((witness) => new Submitter(witness, parts));
  }

  /** Tells all submitters that there may be a newer checkpoint. */
  wake(): void {
    for (const each of this.#all) each.wake();
  }

  get statuses(): readonly WitnessStatus[] {
    return this.#all.flatMap(({ statuses }) => statuses);
  }

  /** Sends the newest checkpoint once more, within CLOSE_MS. */
  async close(): Promise<void> {
    const late = new Promise((resolve) => setTimeout(resolve, CLOSE_MS).unref());
    await Promise.all(this.#all.map((each) => each.close(late)));
  }
}

/** The outcome of a submission. */
type Outcome =
  | { readonly state: "cosigning"; readonly size: number; readonly by: readonly string[] }
  | { readonly state: "failing" | "alarm"; readonly detail: string }
  /** Nothing to send: the witness has the newest checkpoint. */
  | null;

class Submitter {
  readonly #witness: WitnessAt;
  readonly #parts: WitnessesParts;
  readonly #connection: Connection;
  /** The largest size that each key has cosigned, by verifier key; null until the tree was asked. */
  #cosigned: Map<string, number> | null = null;
  /** The size that the witness has cosigned last, as far as this service knows. */
  #old = 0;
  #state: WitnessStatus["state"] = "waiting";
  #detail: string | null = null;
  #running: Promise<void> | null = null;
  #again = false;
  #timer: NodeJS.Timeout | undefined;
  #pauseMs: number;
  #closed = false;

  constructor(witness: WitnessAt, parts: WitnessesParts) {
    this.#witness = witness;
    this.#parts = parts;
    this.#connection = parts.connect(witness.url);
    this.#pauseMs = parts.pauseMs ?? PAUSE_MS;
  }

  get statuses(): WitnessStatus[] {
    const url = this.#witness.url.href;
    return this.#witness.keys.map(({ name, vkey }) => {
      return {
        name,
        vkey,
        url,
        cosignedSize: this.#cosigned?.get(vkey) ?? 0,
        state: this.#state,
        detail: this.#detail,
      };
    });
  }

  wake(): void {
    if (this.#closed) return;
    this.#again = true;
    if (this.#running !== null || this.#timer !== undefined) return;
    this.#running = this.#run().finally(() => {
      this.#running = null;
    });
  }

  async close(late: Promise<unknown>): Promise<void> {
    const isFailing = this.#timer !== undefined;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (!isFailing) {
      this.wake();
      await Promise.race([this.#running, late]);
    }
    this.#closed = true;
    await this.#connection.close();
  }

  async #run(): Promise<void> {
    while (this.#again && !this.#closed) {
      this.#again = false;
      const outcome = await this.#submit();
      if (this.#closed) return;
      if (outcome === null) continue;
      if (outcome.state === "cosigning") this.#noteCosigned(outcome);
      else this.#pause(outcome);
    }
  }

  #noteCosigned({ size, by }: Outcome & { state: "cosigning" }): void {
    for (const vkey of by) this.#cosigned?.set(vkey, size);
    this.#old = size;
    this.#pauseMs = this.#parts.pauseMs ?? PAUSE_MS;
    this.#turn("cosigning", null, size);
  }

  #pause({ state, detail }: Outcome & { state: "failing" | "alarm" }): void {
    this.#turn(state, detail, this.#old);
    this.#again = false;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.wake();
    }, this.#pauseMs).unref();
    this.#pauseMs = Math.min(2 * this.#pauseMs, this.#parts.pauseMostMs ?? PAUSE_MOST_MS);
  }

  #turn(state: WitnessStatus["state"], detail: string | null, size: number): void {
    const isNew = state !== this.#state || detail !== this.#detail;
    this.#state = state;
    this.#detail = detail;
    if (isNew) this.#parts.tell({ url: this.#witness.url.href, state, detail, size });
  }

  /** Never rejects: a failure is an outcome. */
  async #submit(): Promise<Outcome> {
    try {
      await this.#recall();
      for (let at = 0; at < TRIES; at++) {
        const outcome = await this.#trySubmit();
        if (outcome !== "again") return outcome;
      }
      return { state: "failing", detail: `it answered with another size ${TRIES} times in a row` };
    } catch (error) {
      return {
        state: "failing",
        detail: ((error as Error).cause as Error | undefined)?.message ?? (error as Error).message,
      };
    }
  }

  /** Loads the sizes that the witness had cosigned before the service started. */
  async #recall(): Promise<void> {
    if (this.#cosigned !== null) return;
    const sizes = new Map<string, number>();
    for (const { vkey } of this.#witness.keys) sizes.set(vkey, await this.#parts.tree.cosignedBy(vkey));
    this.#cosigned = sizes;
    this.#old = Math.max(...sizes.values());
  }

  async #trySubmit(): Promise<Outcome | "again"> {
    const { tree } = this.#parts;
    const old = this.#old;
    const submission = await tree.submission(old);
    if (submission === null || !("note" in submission)) return null;
    const { size, note, proof } = submission;
    if (proof === null) return otherHistory(old, size);
    if (size === old && this.#state === "cosigning") return null;
    const { status, type, text } = await this.#connection.add(addCheckpointBody({ old, proof, note }));
    if (status === 200) {
      const by = await tree.keepCosignatures(size, text);
      if (by.length > 0) return { state: "cosigning", size, by };
      return { state: "failing", detail: "it answered without a valid cosignature by a configured key" };
    }
    if (status === 409 && type === SIZE_TYPE) return this.#goOnFrom(readSizeBody(text), old, size);
    if (status === 422 || (status === 409 && old === size)) return refusedHistory(old, size);
    return { state: "failing", detail: `it answered ${status}${reasonIn(text)}` };
  }

  async #goOnFrom(known: number | null, old: number, sent: number): Promise<Outcome | "again"> {
    // Witnesses of earlier versions of the protocol answer 409, with the size that they have cosigned, if the tree of
    // that size has another root.
    if (known === old && old === sent) return refusedHistory(old, sent);
    if (known === null || known === old) return { state: "failing", detail: "it answered 409 without another size" };
    if (known > sent) {
      // The log may have signed a larger checkpoint since.
      const now = await this.#parts.tree.submission(known);
      if (now === null || !("note" in now)) return null;
      if (now.proof === null) return otherHistory(known, now.size);
    }
    this.#old = known;
    return "again";
  }
}

function refusedHistory(old: number, size: number): Outcome {
  return { state: "alarm", detail: `it denies that the tree of size ${size} continues the one of size ${old}` };
}

function otherHistory(known: number, size: number): Outcome {
  return {
    state: "alarm",
    detail: `it has cosigned a tree of size ${known}, but the newest that this log has signed has size ${size}`,
  };
}

/** The first line of a refusal, if it is short and printable. */
function reasonIn(text: string): string {
  const [, line] = /^([\x20-\x7e]{1,100})\n?$/.exec(text) ?? [];
  return line === undefined ? "" : `: ${line}`;
}
