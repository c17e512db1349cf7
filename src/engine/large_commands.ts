/**
 * Runs large commands beside all others: in pieces, one a turn of the event loop. Batches of other connections run
 * between two pieces; later requests of the same connection wait in `client.ts`.
 */

import { type LargeEngine, type LargeRequest, piecesOf } from "./pieces.ts";
import type { Reply, Request } from "./request.ts";

/** What commands are answered with that the engine could not run. */
export const BUG: Reply = { failure: "bug", detail: "the command failed inside the service; its log tells more" };

/** What large commands are run by. */
interface LargeParts {
  readonly engine: LargeEngine;
  /** Runs one piece, whatever happens. */
  readonly run: (piece: Request) => Reply;
}

interface UnderWay {
  readonly pieces: ReturnType<typeof piecesOf>;
  readonly answer: (reply: Reply) => void;
  last: Reply | null;
}

/** Large commands under way: a piece of each in turn, so that none waits for all of another. */
export class LargeCommands {
  readonly #parts: LargeParts;
  readonly #underWay: UnderWay[] = [];

  constructor(parts: LargeParts) {
    this.#parts = parts;
  }

  get count(): number {
    return this.#underWay.length;
  }

  /** Takes one on. */
  add(request: LargeRequest, answer: (reply: Reply) => void): void {
    this.#underWay.push({ pieces: piecesOf(this.#parts.engine, request), answer, last: null });
  }

  /** Runs a piece of the one whose turn it is. */
  step(): void {
    const one = this.#underWay.shift();
    if (one === undefined) return;
    // What is given to a generator that has not begun is not looked at.
    const piece = this.#next(one);
    if (piece.done === true) {
      one.answer(piece.value);
      return;
    }
    if (piece.value !== null) one.last = this.#parts.run(piece.value);
    this.#underWay.push(one);
  }

  /** Whatever fails, it is answered. */
  #next({ pieces, last, answer }: UnderWay): IteratorResult<Request | null, Reply> {
    try {
      return pieces.next(last as Reply);
    } catch (error) {
      answer(BUG);
      throw error;
    }
  }
}
