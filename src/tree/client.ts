import type { Worker } from "node:worker_threads";
import type { RowBytes } from "../log/canonical.ts";
import { asBuffer } from "../log/row_transfer.ts";
import { AskedThread } from "../supervisor/asked_thread.ts";
import type { PartFault } from "../supervisor/derived_parts.ts";
import type { TileName } from "../tlog/tiles.ts";
import type { NoAnswer, Submission, TreeReader, TreeStatus } from "./ports.ts";
import { type SignedCheckpoint, TREE, type TreeProtocol } from "./protocol.ts";

export interface TreeListeners {
  /** Called with a message for the operator: the log differs from the tree, or the disk fails. */
  readonly report: (message: string) => void;
  /** Appends the event of a checkpoint that was signed by the rule. Resolves to whether the event is in the log. */
  readonly record: (checkpoint: SignedCheckpoint) => Promise<boolean>;
  /** Called for each signed checkpoint. */
  readonly published: () => void;
  readonly told: (fault: PartFault | null) => void;
}

/** The tree, built, signed and read in a thread of its own. */
export class ThreadedTree implements TreeReader {
  readonly #thread: AskedThread<TreeProtocol>;

  constructor(start: () => Worker, { report, record, published, told }: TreeListeners) {
    this.#thread = new AskedThread(TREE, {
      start,
      report,
      part: { name: "tree", told },
      listeners: { published },
      answers: { record: ({ checkpoint }) => record(checkpoint) },
    });
  }

  /** Call before any request. */
  start(): void {
    this.#thread.start();
  }

  status(): Promise<TreeStatus> {
    return this.#thread.ask("status", {});
  }

  checkpoint(): Promise<{ readonly note: string } | NoAnswer> {
    return this.#thread.ask("checkpoint", {});
  }

  cosigned(count: number): Promise<{ readonly note: string } | NoAnswer> {
    return this.#thread.ask("cosigned", { count });
  }

  proof(seq: number, cosigned: number | null, row?: RowBytes): Promise<{ readonly text: string } | NoAnswer | null> {
    return this.#thread.ask("proof", { seq, cosigned, row: row ?? null });
  }

  async submission(old: number): Promise<Submission | NoAnswer | null> {
    const answer = await this.#thread.ask("submission", { old });
    if (answer === null || !("proof" in answer)) return answer;
    return { ...answer, proof: answer.proof?.map(asBuffer) ?? null };
  }

  keepCosignatures(size: number, lines: string): Promise<readonly string[]> {
    return this.#thread.ask("keepCosignatures", { size, lines });
  }

  cosignedBy(vkey: string): Promise<number> {
    return this.#thread.ask("cosignedBy", { vkey });
  }

  async tile(name: TileName): Promise<{ readonly bytes: Buffer } | NoAnswer | null> {
    const answer = await this.#thread.ask("tile", { name });
    if (answer === null || !("bytes" in answer)) return answer;
    return { bytes: asBuffer(answer.bytes) };
  }

  last(): Promise<SignedCheckpoint | null> {
    return this.#thread.ask("last", {});
  }

  close(): Promise<void> {
    return this.#thread.close();
  }
}
