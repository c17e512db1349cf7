import { crossing, type Nothing, Protocol, type ThreadOrders } from "../../src/supervisor/protocol.ts";

/** An error that crosses with its limit. */
export class TooMany extends Error {
  readonly limit: number;

  constructor(limit: number) {
    super(`more than ${limit}`);
    this.name = "TooMany";
    this.limit = limit;
  }
}

interface Double {
  ask: { readonly number: number };
  answer: number;
}

export interface DoublingQuestions {
  double: Double;
  /** By the thread that asks. */
  doubleBack: Double;
  /** So many bytes, which are handed over; answers how many are left to the thread. */
  bytes: { ask: { readonly count: number }; answer: Uint8Array };
  bytesLeft: { ask: Nothing; answer: number };
  fail: { ask: Nothing; answer: null };
  die: { ask: Nothing; answer: null };
}

/** A thread for tests: see doubling_thread.ts. */
export interface DoublingProtocol {
  readonly data: { readonly limit: number };
  readonly questions: DoublingQuestions;
  readonly inquiries: { double: Double };
  readonly orders: ThreadOrders & { limit: { readonly limit: number } };
  readonly news: { limited: { readonly limit: number } };
}

export const DOUBLING = new Protocol<DoublingProtocol>({
  thread: "doubling",
  doing: "doubling",
  errors: [crossing(TooMany, ({ limit }): [number] => [limit])],
});
