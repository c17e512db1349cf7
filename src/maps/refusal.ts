import { ERRNO, type Errno } from "../abi/errno.ts";

/** A refusal of the kernel, as a value: the errno, and in `detail` the rule that chose it, for people. */
export class Refusal {
  readonly errno: Errno;
  readonly detail: string;
  /** The caller's quota that would be exceeded; null: the reason is another. */
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

/** Makes a refusal: `return refuse("EEXIST", "...")`. */
export function refuse(errno: Errno, detail: string): Refusal {
  return new Refusal(errno, detail);
}

/** An operation that a map type always refuses, in place of a function in its row. */
export function refused(errno: Errno, detail: string): () => Refusal {
  const refusal = new Refusal(errno, detail);
  return () => refusal;
}

export function isRefusal<T>(answer: T | Refusal): answer is Refusal {
  return answer instanceof Refusal;
}
