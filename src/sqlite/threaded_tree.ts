import type { Worker } from "node:worker_threads";
import { AskedThread } from "../engine/asked_thread.ts";
import type { NoAnswer, TreeReader, TreeStatus } from "../engine/tree.ts";
import type { TileName } from "../log/tiles.ts";

/** What the tree's thread is asked. */
export type TreeQuestion =
  | { readonly kind: "status" }
  | { readonly kind: "checkpoint" }
  | { readonly kind: "proof"; readonly seq: number }
  | { readonly kind: "tile"; readonly name: TileName };

export type ToTree = (TreeQuestion & { readonly id: number }) | { readonly kind: "close" };

type TreeAnswer =
  | { readonly kind: "answer"; readonly id: number; readonly answer: unknown }
  | { readonly kind: "failed"; readonly id: number; readonly error: string };

export type FromTree =
  | TreeAnswer
  /** What the operator must know: the log is not what the tree has, or the disk fails it. */
  | { readonly kind: "report"; readonly message: string };

/** The tree, built, signed and read in a thread of its own. */
export class ThreadedTree implements TreeReader {
  readonly #thread: AskedThread<TreeQuestion, TreeAnswer>;

  constructor(start: () => Worker, report: (message: string) => void) {
    const reporting = (): Worker =>
      start().on("message", (message: FromTree) => {
        if (message.kind === "report") report(message.message);
      });
    const read = (message: TreeAnswer): unknown => (message.kind === "answer" ? message.answer : undefined);
    this.#thread = new AskedThread({ doing: "asking the tree", start: reporting, read, report });
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

  close(): Promise<void> {
    return this.#thread.close();
  }

  #ask<Answer>(question: TreeQuestion): Promise<Answer> {
    return this.#thread.ask(question);
  }
}
