import { ERRNO, type Errno } from "../abi/errno.ts";

/** What the kernel refuses: the errno, and in `detail` the rule that chose it, for people. */
export class Refusal {
  readonly errno: Errno;
  readonly detail: string;
  /** The caller's quota that it would be over; null: it is refused for something else. */
  readonly quota: string | null;

  constructor(errno: Errno, detail: string, quota: string | null = null) {
    this.errno = errno;
    this.detail = detail;
    this.quota = quota;
  }

  get number(): number {
    return ERRNO[this.errno];
  }
}

/** A refusal as a value: `return refuse("EEXIST", "...")`. */
export function refuse(errno: Errno, detail: string): Refusal {
  return new Refusal(errno, detail);
}

/** An operation that a map type never does: what stands in its row in place of a function. */
export function refused(errno: Errno, detail: string): () => Refusal {
  const refusal = new Refusal(errno, detail);
  return () => refusal;
}

/** Narrows the answer of an operation. */
export function isRefusal<T>(answer: T | Refusal): answer is Refusal {
  return answer instanceof Refusal;
}
