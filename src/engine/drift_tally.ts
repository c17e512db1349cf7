/** Counts the differences of a comparison (`comparisons.ts`), for its event and its report. */

import type { DriftPolicy } from "../maps/map.ts";
import type { DriftCommand } from "../syscall/command.ts";
import type { ElementDifference } from "./ports.ts";

/** The number of elements that differ between the ledger and the kernel map. */
export interface DriftCounts {
  /** Only the ledger has them. */
  readonly missing: number;
  /** Both have them, with different values. */
  readonly changed: number;
  /** Only the kernel has them. */
  readonly extra: number;
  /** The elements among these that both sides have changed. */
  readonly both: number;
  /** Elements that the kernel has evicted, as it may in maps of this type. They are not among the others. */
  readonly evicted: number;
}

/** An ElementDifference in hex: a Buffer crosses threads with all of the memory that it is a view of. */
interface ToldDifference {
  readonly key: string;
  readonly ledger: string | null;
  readonly kernel: string | null;
}

/** The differences between a map and its kernel map. */
export interface DriftReport {
  readonly counts: DriftCounts;
  /** The first of them, at most as many as requested. */
  readonly differences: readonly ToldDifference[];
}

/** The most keys in an event. */
const FIRST_KEYS = 10;

/** Counts differences, and keeps the first of them. */
export class Tally {
  readonly #limit: number;
  readonly #counts = { missing: 0, changed: 0, extra: 0, both: 0, evicted: 0 };
  readonly #differences: ToldDifference[] = [];
  readonly firstKeys: string[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  add(difference: ElementDifference, evicted: boolean, byBoth: boolean): void {
    if (evicted) this.#counts.evicted++;
    else this.#counts[kindOf(difference)]++;
    if (byBoth) this.#counts.both++;
    if (this.firstKeys.length < FIRST_KEYS) this.firstKeys.push(difference.key.toString("hex"));
    if (this.#differences.length < this.#limit) this.#differences.push(inHex(difference));
  }

  get counts(): DriftCounts {
    return this.#counts;
  }

  get total(): number {
    const { missing, changed, extra, evicted } = this.#counts;
    return missing + changed + extra + evicted;
  }

  get isEmpty(): boolean {
    return this.total === 0;
  }

  get described(): string {
    const { missing, changed, extra, evicted } = this.#counts;
    return `${missing} ${changed} ${extra} ${evicted}`;
  }

  get report(): DriftReport {
    return { counts: this.#counts, differences: this.#differences };
  }
}

/** The description of an empty tally. */
export const NOTHING_TOLD = new Tally(0).described;

/** Whether only the ledger has the element. */
export function isMissing({ ledger, kernel }: ElementDifference): boolean {
  return ledger !== null && kernel === null;
}

/** The attr of the event that records a tally. */
export function driftAttr(
  policy: DriftPolicy["policy"],
  { counts, firstKeys }: Tally,
  at: string | null,
): DriftCommand["attr"] {
  const { missing, changed, extra, both, evicted } = counts;
  return {
    policy,
    missing,
    changed,
    extra,
    ...(both === 0 ? {} : { both_changed: both }),
    ...(evicted === 0 ? {} : { evicted }),
    ...(at === null ? {} : { at }),
    first_keys: firstKeys,
  };
}

function inHex({ key, ledger, kernel }: ElementDifference): ToldDifference {
  return {
    key: key.toString("hex"),
    ledger: ledger?.toString("hex") ?? null,
    kernel: kernel?.toString("hex") ?? null,
  };
}

function kindOf({ ledger, kernel }: ElementDifference): "missing" | "changed" | "extra" {
  if (ledger === null) return "extra";
  return kernel === null ? "missing" : "changed";
}
