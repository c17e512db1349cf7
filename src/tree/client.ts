import type { Worker } from "node:worker_threads";
import type { RowBytes } from "../log/canonical.ts";
import { asBuffer } from "../log/row_transfer.ts";
import { AskedThread } from "../supervisor/asked_thread.ts";
import type { PartFault } from "../supervisor/derived_parts.ts";
import type { CheckpointCommand } from "../syscall/command.ts";
import type { TileName } from "../tlog/tiles.ts";
import type { NoAnswer, Submission, TreeReader, TreeStatus } from "./ports.ts";

/** Requests to the tree's thread. */
export type TreeQuestion =
  | { readonly kind: "status" }
  | { readonly kind: "checkpoint" }
  | { readonly kind: "cosigned"; readonly count: number }
  | { readonly kind: "last" }
  | { readonly kind: "proof"; readonly seq: number; readonly cosigned: number | null; readonly row?: RowBytes }
  | { readonly kind: "submission"; readonly old: number }
  | { readonly kind: "keep cosignatures"; readonly size: number; readonly lines: string }
  | { readonly kind: "cosigned by"; readonly vkey: string }
  | { readonly kind: "tile"; readonly name: TileName };

export type ToTree =
  | (TreeQuestion & { readonly id: number })
  /** Whether the event of a checkpoint that the thread has signed is in the log. */
  | { readonly kind: "recorded"; readonly isInLog: boolean }
  | { readonly kind: "close" };

/** A checkpoint, in the form of its event. */
type SignedCheckpoint = CheckpointCommand["attr"];

type TreeAnswer =
  | { readonly kind: "answer"; readonly id: number; readonly answer: unknown }
  | { readonly kind: "failed"; readonly id: number; readonly error: string; readonly fault?: PartFault };

export type FromTree =
  | TreeAnswer
  /** The thread has signed a checkpoint by its rule. */
  | { readonly kind: "signed"; readonly checkpoint: SignedCheckpoint }
  /** The thread has signed a checkpoint, by its rule or on request. */
  | { readonly kind: "published" }
  /** A message for the operator: the log differs from the tree, or the disk fails. */
  | { readonly kind: "report"; readonly message: string };

export interface TreeListeners {
  readonly report: (message: string) => void;
  /** Appends the event of a checkpoint that was signed by the rule. Resolves to whether the event is in the log. */
  readonly record: (checkpoint: SignedCheckpoint) => Promise<boolean>;
  /** Called for each signed checkpoint. */
  readonly published: () => void;
  readonly told: (fault: PartFault | null) => void;
}

/** The tree, built, signed and read in a thread of its own. */
export class ThreadedTree implements TreeReader {
  readonly #thread: AskedThread<TreeQuestion, TreeAnswer>;

  constructor(start: () => Worker, { report, record, published, told }: TreeListeners) {
    const listening = (): Worker => {
      const worker = start();
      return worker.on("message", (message: FromTree) => {
        if (message.kind === "report") report(message.message);
        if (message.kind === "published") published();
        if (message.kind !== "signed") return;
        record(message.checkpoint).then((isInLog) =>
          worker.postMessage({ kind: "recorded", isInLog } satisfies ToTree),
        );
      });
    };
    const read = (message: TreeAnswer): unknown => (message.kind === "answer" ? message.answer : undefined);
    this.#thread = new AskedThread({
      doing: "asking the tree",
      start: listening,
      read,
      report,
      part: { name: "tree", told },
    });
  }

  /** Call before any request. */
  start(): void {
    this.#thread.start();
  }

  status(): Promise<TreeStatus> {
    return this.#ask({ kind: "status" });
  }

  checkpoint(): Promise<{ readonly note: string } | NoAnswer> {
    return this.#ask({ kind: "checkpoint" });
  }

  cosigned(count: number): Promise<{ readonly note: string } | NoAnswer> {
    return this.#ask({ kind: "cosigned", count });
  }

  proof(seq: number, cosigned: number | null, row?: RowBytes): Promise<{ readonly text: string } | NoAnswer | null> {
    return this.#ask({ kind: "proof", seq, cosigned, ...(row !== undefined && { row }) });
  }

  /** The submission for a witness that has cosigned size `old`; null: nothing was signed. */
  async submission(old: number): Promise<Submission | NoAnswer | null> {
    const answer = await this.#ask<Submission | NoAnswer | null>({ kind: "submission", old });
    if (answer === null || !("proof" in answer)) return answer;
    return { ...answer, proof: answer.proof?.map(asBuffer) ?? null };
  }

  /** Keeps the valid cosignatures of a witness' answer. Resolves to their verifier keys. */
  keepCosignatures(size: number, lines: string): Promise<readonly string[]> {
    return this.#ask({ kind: "keep cosignatures", size, lines });
  }

  /** The size of the newest checkpoint that a witness' key has cosigned; 0 if there is none. */
  cosignedBy(vkey: string): Promise<number> {
    return this.#ask({ kind: "cosigned by", vkey });
  }

  async tile(name: TileName): Promise<{ readonly bytes: Buffer } | NoAnswer | null> {
    const answer = await this.#ask<{ readonly bytes: Uint8Array } | NoAnswer | null>({ kind: "tile", name });
    if (answer === null || !("bytes" in answer)) return answer;
    return { bytes: asBuffer(answer.bytes) };
  }

  /** The final checkpoint, to be recorded by the log's last event; null: none is needed. */
  last(): Promise<SignedCheckpoint | null> {
    return this.#ask({ kind: "last" });
  }

  close(): Promise<void> {
    return this.#thread.close();
  }

  #ask<Answer>(question: TreeQuestion): Promise<Answer> {
    return this.#thread.ask(question);
  }
}
