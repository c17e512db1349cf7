import type { Statement } from "better-sqlite3";

/**
 * The last event before a moment, at most `last`; `first` where there is none: the seq behind which the log begins. Its times
 * never step back. `timeAt`: time_us of a seq, plucked.
 */
export function seqBefore(timeAt: Statement, last: number, timeUs: number, first = 0): number {
  let before = first;
  let notBefore = last + 1;
  while (notBefore - before > 1) {
    const middle = Math.floor((before + notBefore) / 2);
    if ((timeAt.get(middle) as number) < timeUs) before = middle;
    else notBefore = middle;
  }
  return before;
}
