import type { LogTree } from "./log_tree.ts";
import type { NoAnswer } from "./tree.ts";

/** The log must have rested this long before it is hashed without being asked: hashing shares the cores. */
const REST_MS = 250;
/** Unless it has run ahead so far: then whoever asks would wait for too long. */
const BEHIND_MAX = 65_536;
/** How long somebody who asks may wait for the tree. */
const WAIT_MS = 30_000;
/** How long a stop may take to bring the tree to the end of the log. */
const CLOSE_MS = 3000;
/** How long a disk that has failed is left alone. */
const RETRY_MS = 5000;

interface Waiting {
  readonly seq: number;
  readonly untilMs: number;
  readonly resolve: (there: NoAnswer | null) => void;
}

/** Keeps the tree near the log, and those who ask waiting until it is there. */
export class TreeKeeper {
  readonly #tree: LogTree;
  readonly #report: (message: string) => void;
  #waiting: Waiting[] = [];
  #seenSeq = -1;
  #told: string | null = null;
  #retryAtMs = 0;
  #timer: NodeJS.Timeout;

  constructor(tree: LogTree, report: (message: string) => void) {
    this.#tree = tree;
    this.#report = report;
    if (tree.added !== null) report(tree.added);
    this.tell();
    this.#timer = setTimeout(() => this.#tick(), REST_MS);
  }

  /** Null when the tree has the event, or all that there are now; otherwise why not. */
  reach(seq: number): Promise<NoAnswer | null> {
    if (this.#tree.size >= seq) return Promise.resolve(null);
    return new Promise((resolve) => {
      this.#waiting.push({ seq, untilMs: performance.now() + WAIT_MS, resolve });
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#tick(), 0);
    });
  }

  /** Says, once, why nothing is signed any more. */
  tell(): void {
    const { refusal } = this.#tree;
    if (refusal !== null && refusal !== this.#told) this.#report(`no checkpoint is signed any more: ${refusal}`);
    this.#told = refusal;
  }

  /** Brings the tree to the end of the log, if that is near, and closes it. */
  close(): void {
    clearTimeout(this.#timer);
    const until = performance.now() + CLOSE_MS;
    while (this.#catchUp() && performance.now() < until);
    this.#tree.close(this.#tree.size === this.#tree.lastSeq());
  }

  #tick(): void {
    const last = this.#tree.lastSeq();
    const rested = last === this.#seenSeq;
    this.#seenSeq = last;
    const behind = last - this.#tree.size;
    const wanted = behind !== 0 && (rested || behind < 0 || behind > BEHIND_MAX || this.#waiting.length > 0);
    const more = wanted && this.#catchUp();
    this.#answer(last);
    this.#timer = setTimeout(() => this.#tick(), more ? 0 : REST_MS);
  }

  /** Answers whether there is more that can be done now. */
  #catchUp(): boolean {
    if (performance.now() < this.#retryAtMs) return false;
    try {
      const more = this.#tree.catchUp();
      this.tell();
      return more;
    } catch (error) {
      this.#retryAtMs = performance.now() + RETRY_MS;
      this.#report(`hashing the log: ${(error as Error).message}`);
      return false;
    }
  }

  #answer(last: number): void {
    const { size, refusal } = this.#tree;
    const nowMs = performance.now();
    this.#waiting = this.#waiting.filter(({ seq, untilMs, resolve }) => {
      if (size >= seq) resolve(null);
      else if (refusal !== null) resolve({ refused: refusal });
      else if (nowMs > untilMs) resolve({ behind: `the tree has ${size} of ${last} events` });
      else return true;
      return false;
    });
  }
}
