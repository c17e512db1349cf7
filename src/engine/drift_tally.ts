import type { DriftPolicy } from "../maps/map.ts";
import type { DriftCommand } from "../syscall/command.ts";
import type { ElementDifference } from "./ports.ts";

/** Elements that are not the same in the ledger and in the kernel. */
export interface DriftCounts {
  /** In the ledger alone. */
  readonly missing: number;
  /** In both, with other values. */
  readonly changed: number;
  /** In the kernel alone. */
  readonly extra: number;
  /** Of these: changed by both. */
  readonly both: number;
  /** Beside these: let go by the kernel, which may do so in maps of this type. */
  readonly evicted: number;
}

/** An ElementDifference in hex: a Buffer would cross threads with all of the memory that it is a view of. */
interface ToldDifference {
  readonly key: string;
  readonly ledger: string | null;
  readonly kernel: string | null;
}

/** What a map and its kernel map differ in. */
export interface DriftReport {
  readonly counts: DriftCounts;
  /** As many of them as were asked for. */
  readonly differences: readonly ToldDifference[];
}

/** Keys that an event shows. */
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

/** The description of a tally that has found nothing. */
export const NOTHING_TOLD = new Tally(0).described;

/** Only the ledger has it. */
export function isMissing({ ledger, kernel }: ElementDifference): boolean {
  return ledger !== null && kernel === null;
}

/** A tally as an event has it. */
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
