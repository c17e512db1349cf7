import type { Worker } from "node:worker_threads";
import type { NoAnswer, TreeReader, TreeStatus } from "../engine/tree.ts";
import type { TileName } from "../log/tiles.ts";

/** What the tree's thread is asked. */
export type TreeQuestion =
  | { readonly kind: "status" }
  | { readonly kind: "checkpoint" }
  | { readonly kind: "proof"; readonly seq: number }
  | { readonly kind: "tile"; readonly name: TileName };

export type ToTree =
  | (TreeQuestion & { readonly id: number })
  /** The log is there, and nobody but this service writes to it. */
  | { readonly kind: "open" }
  | { readonly kind: "close" };

export type FromTree =
  | { readonly kind: "answer"; readonly id: number; readonly answer: unknown }
  | { readonly kind: "failed"; readonly id: number; readonly error: string }
  /** What the operator must know: the log is not what the tree has, or the disk fails it. */
  | { readonly kind: "report"; readonly message: string };

/** The tree, built, signed and read in a thread of its own. */
export class ThreadedTree implements TreeReader {
  readonly #worker: Worker;
  readonly #asked = new Map<number, { resolve: (answer: never) => void; reject: (error: Error) => void }>();
  #last = 0;

  constructor(worker: Worker, report: (message: string) => void) {
    this.#worker = worker;
    worker.on("message", (message: FromTree) => {
      if (message.kind === "report") {
        report(message.message);
        return;
      }
      const asked = this.#asked.get(message.id);
      this.#asked.delete(message.id);
      if (message.kind === "answer") asked?.resolve(message.answer as never);
      else asked?.reject(new Error(`asking the tree: ${message.error}`));
    });
    worker.on("exit", () => {
      for (const { reject } of this.#asked.values()) reject(new Error("asking the tree: its thread has stopped"));
      this.#asked.clear();
    });
  }

  /** To be called when the log is there; nothing may be asked before. */
  open(): void {
    this.#worker.postMessage({ kind: "open" } satisfies ToTree);
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
    return new Promise((resolve) => {
      this.#worker.once("exit", () => resolve());
      this.#worker.postMessage({ kind: "close" } satisfies ToTree);
    });
  }

  #ask<Answer>(question: TreeQuestion): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const id = ++this.#last;
      this.#asked.set(id, { resolve, reject });
      this.#worker.postMessage({ ...question, id } satisfies ToTree);
    });
  }
}
