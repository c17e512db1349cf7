/**
 * Keeps the tree near the log's end and decides when a checkpoint is due. It hashes events if the log rests, if the
 * tree is 65,536 events behind, or if a request or a due checkpoint needs them. A CHECKPOINT event does not make
 * another checkpoint due; otherwise each checkpoint would cause the next.
 */

import type { CheckpointCommand } from "../syscall/command.ts";
import type { LogTree } from "./log_tree.ts";
import type { NoAnswer, SigningRule } from "./ports.ts";

/** A checkpoint, in the form of its event. */
type Signed = CheckpointCommand["attr"];

/**
 * The log must have rested this long before the tree hashes its events without a request, because hashing takes a core.
 */
const REST_MS = 250;
/** If the log is this far ahead, the tree hashes without waiting for a rest: a later request would wait too long. */
const BEHIND_MAX = 65_536;
/** The longest that a request waits for the tree. */
const WAIT_MS = 30_000;
/** The longest that a stop takes to bring the tree to the end of the log. */
const CLOSE_MS = 3000;
/** The pause after a failure of the disk, or of the append of a checkpoint's event. */
const RETRY_MS = 5000;
const S = 1000;

/** A request that waits until the tree has the event `seq`. */
interface Waiter {
  readonly seq: number;
  readonly untilMs: number;
  readonly resolve: (there: NoAnswer | null) => void;
  readonly reject: (error: Error) => void;
}

export interface TreeKeeperParts {
  readonly rule: SigningRule;
  readonly report: (message: string) => void;
  /** Called with each checkpoint that was signed by the rule; the receiver must record it. */
  readonly signed: (checkpoint: Signed) => void;
  /** Called once with the reason if the tree signs no more. Absent: nobody is informed. */
  readonly refused?: (why: string) => void;
  /** Called with failures of the disk or of the log. Absent: nobody is informed. */
  readonly failed?: (error: unknown) => void;
}

/**
 * Keeps the tree near the end of the log, lets requests wait until it has their events, and signs checkpoints by the
 * rule.
 */
export class TreeKeeper {
  readonly #tree: LogTree;
  readonly #parts: TreeKeeperParts;
  #waiting: Waiter[] = [];
  #seenSeq = -1;
  #told: string | null = null;
  #retryAtMs = 0;
  /** Since when the log may have events that no recorded checkpoint includes. */
  #unrecordedMs: number | null = null;
  /** Whether the event of a signed checkpoint is being appended. */
  #recording = false;
  #signAfterMs = 0;
  #isOver = false;
  #timer: NodeJS.Timeout;

  constructor(tree: LogTree, parts: TreeKeeperParts) {
    this.#tree = tree;
    this.#parts = parts;
    this.tell();
    this.#timer = setTimeout(() => this.#tick(), REST_MS);
  }

  /**
   * Resolves to null once the tree has the event. If the tree refuses, or does not reach the event within WAIT_MS,
   * resolves to the reason.
   */
  reach(seq: number): Promise<NoAnswer | null> {
    if (this.#tree.size >= seq) return Promise.resolve(null);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ seq, untilMs: performance.now() + WAIT_MS, resolve, reject });
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#tick(), 0);
    });
  }

  /** Reports once why nothing is signed any more. */
  tell(): void {
    const { refusal } = this.#tree;
    if (refusal !== null && refusal !== this.#told) {
      this.#parts.report(`no checkpoint is signed any more: ${refusal}`);
      this.#parts.refused?.(refusal);
    }
    this.#told = refusal;
  }

  /** Notes whether the event of the last checkpoint is in the log. */
  recorded(isInLog: boolean): void {
    this.#recording = false;
    if (isInLog) this.#tree.noteRecorded();
    else this.#signAfterMs = performance.now() + RETRY_MS;
    this.#unrecordedMs = null;
  }

  /** The final checkpoint, of all events; null: none is needed, or the tree cannot reach the log's end in time. */
  last(): Signed | null {
    const { events, seconds } = this.#parts.rule;
    if (events === 0 && seconds === 0) return null;
    this.#tree.noteRecorded();
    this.#hurry();
    return this.#tree.size === this.#tree.lastSeq() ? this.#sign() : null;
  }

  /** Brings the tree to the end of the log if that takes no longer than CLOSE_MS, and closes it. */
  close(): void {
    clearTimeout(this.#timer);
    this.#hurry();
    this.#tree.close(this.#tree.size === this.#tree.lastSeq());
  }

  /** Closes the tree as it is. Waiting requests are rejected. */
  abandon(): void {
    clearTimeout(this.#timer);
    this.#isOver = true;
    for (const { reject } of this.#waiting.splice(0)) reject(new Error("the tree was closed"));
    this.#tree.close(false);
  }

  #hurry(): void {
    const until = performance.now() + CLOSE_MS;
    while (this.#catchUp() && performance.now() < until);
  }

  #tick(): void {
    let more = false;
    try {
      more = this.#keepUp();
    } catch (error) {
      this.#fail("following the log", error);
    }
    if (!this.#isOver) this.#timer = setTimeout(() => this.#tick(), more ? 0 : REST_MS);
  }

  #fail(doing: string, error: unknown): void {
    this.#parts.report(`${doing}: ${(error as Error).message}`);
    if (this.#parts.failed === undefined) return;
    for (const { reject } of this.#waiting.splice(0)) reject(error as Error);
    this.#parts.failed(error);
  }

  /** Returns whether more can be done at once. */
  #keepUp(): boolean {
    const last = this.#tree.lastSeq();
    const rested = last === this.#seenSeq;
    this.#seenSeq = last;
    const behind = last - this.#tree.size;
    const isDue = this.#isDue(behind);
    const wanted = behind !== 0 && (rested || behind < 0 || behind > BEHIND_MAX || isDue || this.#waiting.length > 0);
    const more = wanted && this.#catchUp();
    if (isDue && !more) this.#signDue();
    this.#answer(last);
    return more;
  }

  /** Whether the rule demands a checkpoint. The event of the last checkpoint alone does not count. */
  #isDue(behind: number): boolean {
    const nowMs = performance.now();
    const pending = this.#tree.unrecorded + Math.max(behind, 0);
    if (pending === 0 || this.#tree.refusal !== null) {
      this.#unrecordedMs = null;
      return false;
    }
    this.#unrecordedMs ??= nowMs;
    if (this.#recording || nowMs < this.#signAfterMs) return false;
    const { events, seconds } = this.#parts.rule;
    return (events > 0 && pending >= events) || (seconds > 0 && nowMs - this.#unrecordedMs >= seconds * S);
  }

  #signDue(): void {
    this.#unrecordedMs = null;
    const checkpoint = this.#sign();
    if (checkpoint === null) return;
    this.#recording = true;
    this.#parts.signed(checkpoint);
  }

  /** null: there is nothing to sign, or signing fails. */
  #sign(): Signed | null {
    if (this.#tree.unrecorded === 0) return null;
    try {
      const checkpoint = this.#tree.checkpoint();
      this.tell();
      if ("refused" in checkpoint) return null;
      const { log, possibleCpus } = this.#tree.status;
      const { size, note } = checkpoint;
      return { size, log, possible_cpus: possibleCpus, life: this.#tree.life, note };
    } catch (error) {
      this.#signAfterMs = performance.now() + RETRY_MS;
      this.#fail("signing a checkpoint", error);
      return null;
    }
  }

  /** Returns whether more can be done now. */
  #catchUp(): boolean {
    if (performance.now() < this.#retryAtMs) return false;
    try {
      const more = this.#tree.catchUp();
      this.tell();
      return more;
    } catch (error) {
      this.#retryAtMs = performance.now() + RETRY_MS;
      this.#fail("hashing the log", error);
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
