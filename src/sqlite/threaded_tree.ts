import type { Worker } from "node:worker_threads";
import { AskedThread } from "../engine/asked_thread.ts";
import type { NoAnswer, TreeReader, TreeStatus } from "../engine/tree.ts";
import type { TileName } from "../log/tiles.ts";
import type { CheckpointCommand } from "../syscall/command.ts";

/** What the tree's thread is asked. */
export type TreeQuestion =
  | { readonly kind: "status" }
  | { readonly kind: "checkpoint" }
  | { readonly kind: "last" }
  | { readonly kind: "proof"; readonly seq: number }
  | { readonly kind: "tile"; readonly name: TileName };

export type ToTree =
  | (TreeQuestion & { readonly id: number })
  /** What became of the event of a checkpoint that was signed. */
  | { readonly kind: "recorded"; readonly isInLog: boolean }
  | { readonly kind: "close" };

/** A checkpoint that an event is to tell of, as the event has it. */
type SignedCheckpoint = CheckpointCommand["attr"];

type TreeAnswer =
  | { readonly kind: "answer"; readonly id: number; readonly answer: unknown }
  | { readonly kind: "failed"; readonly id: number; readonly error: string };

export type FromTree =
  | TreeAnswer
  /** A checkpoint was signed without being asked for. */
  | { readonly kind: "signed"; readonly checkpoint: SignedCheckpoint }
  /** What the operator must know: the log is not what the tree has, or the disk fails it. */
  | { readonly kind: "report"; readonly message: string };

/** The tree, built, signed and read in a thread of its own. */
export class ThreadedTree implements TreeReader {
  readonly #thread: AskedThread<TreeQuestion, TreeAnswer>;

  /** `record` writes the event of a checkpoint that was signed by itself, and answers whether it is in the log. */
  constructor(
    start: () => Worker,
    report: (message: string) => void,
    record: (checkpoint: SignedCheckpoint) => Promise<boolean>,
  ) {
    const listening = (): Worker => {
      const worker = start();
      return worker.on("message", (message: FromTree) => {
        if (message.kind === "report") report(message.message);
        if (message.kind !== "signed") return;
        record(message.checkpoint).then((isInLog) =>
          worker.postMessage({ kind: "recorded", isInLog } satisfies ToTree),
        );
      });
    };
    const read = (message: TreeAnswer): unknown => (message.kind === "answer" ? message.answer : undefined);
    this.#thread = new AskedThread({ doing: "asking the tree", start: listening, read, report });
  }

  /** Nothing may be asked before. */
  start(): void {
    this.#thread.start();
  }

  status(): Promise<TreeStatus> {
    return this.#ask({ kind: "status" });
  }

  checkpoint(): Promise<{ readonly note: string } | NoAnswer> {
    return this.#ask({ kind: "checkpoint" });
  }

  proof(seq: number): Promise<{ readonly text: string } | NoAnswer | null> {
    return this.#ask({ kind: "proof", seq });
  }

  async tile(name: TileName): Promise<{ readonly bytes: Buffer } | NoAnswer | null> {
    const answer = await this.#ask<{ readonly bytes: Uint8Array } | NoAnswer | null>({ kind: "tile", name });
    if (answer === null || !("bytes" in answer)) return answer;
    // Buffers cross threads as plain byte arrays.
    const { buffer, byteOffset, byteLength } = answer.bytes;
    return { bytes: Buffer.from(buffer, byteOffset, byteLength) };
  }

  /** The checkpoint to stop with, which the log's last event is to tell of; null: none is needed. */
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
