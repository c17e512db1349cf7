import type { WitnessAnswer } from "../client/witness.ts";
import { addCheckpointBody, readSizeBody, SIZE_TYPE } from "../tlog/add_checkpoint.ts";
import type { NoAnswer, Submission, WitnessStatus } from "../tree/ports.ts";
import type { WitnessAt } from "./witnesses_file.ts";

/** The tree as witnesses need it. */
interface WitnessedTree {
  submission(old: number): Promise<Submission | NoAnswer | null>;
  keepCosignatures(size: number, lines: string): Promise<readonly string[]>;
  cosignedBy(vkey: string): Promise<number>;
}

interface Connection {
  add(body: string): Promise<WitnessAnswer>;
  close(): Promise<void>;
}

/** What the service's log lines tell. */
export interface WitnessTold {
  readonly url: string;
  readonly state: WitnessStatus["state"];
  readonly detail: string | null;
  readonly size: number;
}

export interface WitnessesParts {
  readonly tree: WitnessedTree;
  readonly connect: (url: URL) => Connection;
  /** Told whenever it stands otherwise with a witness. */
  readonly tell: (told: WitnessTold) => void;
  /** After the first failure, and at most: each failure waits twice as long. */
  readonly pauseMs?: number;
  readonly pauseMostMs?: number;
}

const PAUSE_MS = 1000;
const PAUSE_MOST_MS = 5 * 60_000;
/** A witness that answers other sizes each time is left alone for a while. */
const TRIES = 4;
/** How long a stop waits for the last checkpoint to be cosigned. */
const CLOSE_MS = 2000;

/** Sends each checkpoint to the witnesses, beside everything else, and keeps what they cosign. */
export class Witnesses {
  readonly #all: readonly Submitter[];

  constructor(witnesses: readonly WitnessAt[], parts: WitnessesParts) {
    this.#all = witnesses.map((witness) => new Submitter(witness, parts));
  }

  /** There is a checkpoint that they may not have. */
  wake(): void {
    for (const each of this.#all) each.wake();
  }

  get statuses(): readonly WitnessStatus[] {
    return this.#all.flatMap(({ statuses }) => statuses);
  }

  /** Sends what there is once more, if that is soon done. */
  async close(): Promise<void> {
    const late = new Promise((resolve) => setTimeout(resolve, CLOSE_MS).unref());
    await Promise.all(this.#all.map((each) => each.close(late)));
  }
}

/** How a submission ended. */
type Outcome =
  | { readonly state: "cosigning"; readonly size: number; readonly by: readonly string[] }
  | { readonly state: "failing" | "alarm"; readonly detail: string }
  /** There is nothing to send. */
  | null;

class Submitter {
  readonly #witness: WitnessAt;
  readonly #parts: WitnessesParts;
  readonly #connection: Connection;
  /** Sizes that keys have cosigned; null: the tree has not been asked. */
  #cosigned: Map<string, number> | null = null;
  /** What the witness has cosigned, as far as is known. */
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

  /** Never rejects. */
  async #submit(): Promise<Outcome> {
    try {
      await this.#recall();
      for (let at = 0; at < TRIES; at++) {
        const outcome = await this.#trySubmit();
        if (outcome !== "again") return outcome;
      }
      return { state: "failing", detail: `it has answered another size ${TRIES} times` };
    } catch (error) {
      return {
        state: "failing",
        detail: ((error as Error).cause as Error | undefined)?.message ?? (error as Error).message,
      };
    }
  }

  /** What it had cosigned when the service stopped. */
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
      return { state: "failing", detail: "it has answered without a cosignature that holds by a key of its line" };
    }
    if (status === 409 && type === SIZE_TYPE) return this.#goOnFrom(readSizeBody(text), old, size);
    if (status === 422 || (status === 409 && old === size)) return refusedHistory(old, size);
    return { state: "failing", detail: `it has answered ${status}${reasonIn(text)}` };
  }

  async #goOnFrom(known: number | null, old: number, sent: number): Promise<Outcome | "again"> {
    // Earlier witnesses answer so to another tree of the same size.
    if (known === old && old === sent) return refusedHistory(old, sent);
    if (known === null || known === old)
      return { state: "failing", detail: "it has answered 409 without another size" };
    if (known > sent) {
      // More may have been signed since.
      const now = await this.#parts.tree.submission(known);
      if (now === null || !("note" in now)) return null;
      if (now.proof === null) return otherHistory(known, now.size);
    }
    this.#old = known;
    return "again";
  }
}

function refusedHistory(old: number, size: number): Outcome {
  return { state: "alarm", detail: `it refuses that the tree of size ${size} continues the one of size ${old}` };
}

function otherHistory(known: number, size: number): Outcome {
  return {
    state: "alarm",
    detail: `it has cosigned a tree of size ${known}, the newest that this log has signed is of size ${size}`,
  };
}

/** What a refusal says, in its first line. */
function reasonIn(text: string): string {
  const [, line] = /^([\x20-\x7e]{1,100})\n?$/.exec(text) ?? [];
  return line === undefined ? "" : `: ${line}`;
}
