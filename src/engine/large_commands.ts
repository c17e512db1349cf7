/**
 * Runs large commands in pieces (`pieces.ts`), one in each turn of the event loop. Batches run between two pieces;
 * later commands of the same connection wait in `client.ts`.
 */

import { type LargeRequest, type PieceSources, piecesOf } from "./pieces.ts";
import type { Reply, Request } from "./request.ts";

/** The reply to a command that has failed inside the engine. */
export const BUG: Reply = { failure: "bug", detail: "the command failed inside the service; its log tells more" };

interface LargeParts {
  readonly sources: PieceSources;
  /** Runs one piece. It does not throw. */
  readonly run: (piece: Request) => Reply;
}

interface UnderWay {
  readonly pieces: ReturnType<typeof piecesOf>;
  readonly answer: (reply: Reply) => void;
  last: Reply | null;
}

/** The large commands under way. They take turns, a piece each, so that none waits for all of another. */
export class LargeCommands {
  readonly #parts: LargeParts;
  readonly #underWay: UnderWay[] = [];

  constructor(parts: LargeParts) {
    this.#parts = parts;
  }

  get count(): number {
    return this.#underWay.length;
  }

  /** Adds a command. `answer` is called with its reply. */
  add(request: LargeRequest, answer: (reply: Reply) => void): void {
    this.#underWay.push({ pieces: piecesOf(this.#parts.sources, request), answer, last: null });
  }

  /** Runs a piece of the command whose turn it is. */
  step(): void {
    const one = this.#underWay.shift();
    if (one === undefined) return;
    // The first call of next() ignores its argument, so `last` may be null then.
    const piece = this.#next(one);
    if (piece.done === true) {
      one.answer(piece.value);
      return;
    }
    if (piece.value !== null) one.last = this.#parts.run(piece.value);
    this.#underWay.push(one);
  }

  /** If the generator throws, the command is answered all the same. */
  #next({ pieces, last, answer }: UnderWay): IteratorResult<Request | null, Reply> {
    try {
      return pieces.next(last as Reply);
    } catch (error) {
      answer(BUG);
      throw error;
    }
  }
}
