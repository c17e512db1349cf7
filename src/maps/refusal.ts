import { ERRNO, type Errno } from "../abi/errno.ts";

/** What the kernel refuses: the errno, and in `detail` the rule that chose it, for people. */
export class Refusal {
  readonly errno: Errno;
  readonly detail: string;

  constructor(errno: Errno, detail: string) {
    this.errno = errno;
    this.detail = detail;
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
