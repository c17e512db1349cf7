import { elementsOf, shown } from "./answers.ts";
import type { Contents, Elements } from "./contents.ts";
import type { Judge } from "./judge.ts";
import type { Pair, Side } from "./pair.ts";
import { BTF_TYPE } from "./stream_btf.ts";
import type { Answer } from "./subject.ts";
import type { Twin } from "./twins.ts";

/**
 * LRU maps that may have put something out: the service does when a map is full, the kernel earlier, in groups, and for
 * updates that fail. Which elements are there is then another question on each side, and so is what depends on it. What is
 * certain: an element has the value that it was given last, there are at most max_entries, and one that was just written
 * is there.
 */

/** Fewer keys than half of max_entries: nothing is put out. A stream has at most so many keys for a map. */
const KEYS_MAX = 60;

/** What may be answered according to which elements there are. */
const OPEN_ANSWERS: ReadonlySet<string | null> = new Set([null, "ENOENT", "EEXIST", "EFAULT", "ENOSPC"]);

export function isLossy({ type, maxEntries }: Twin): boolean {
  return (type === "LRU_HASH" || type === "LRU_PERCPU_HASH") && maxEntries < 2 * KEYS_MAX;
}

/** A timer in a value reads as zeros. */
function kept({ attr, type }: Twin, value: string): string {
  if (type !== "LRU_HASH" || attr.btf_value_type_id !== BTF_TYPE.timed) return value;
  return value.slice(0, TIMER_START * 2).padEnd(value.length, "0");
}

const TIMER_START = 8;

export class Lossy {
  readonly #judge: Judge;
  readonly #contents: Contents;
  readonly #given = new Map<Twin, Pair<Map<string, string>>>();

  constructor(judge: Judge, contents: Contents) {
    this.#judge = judge;
    this.#contents = contents;
  }

  /** Compares answers of a command on such a map, and notes what it was given. `elements`: what an update brings. */
  judge(
    cmd: string,
    twin: Twin,
    answers: Pair<Answer>,
    elements: readonly (readonly [key: string, value: string])[],
  ): void {
    this.#judge.commands++;
    const [service, kernel] = answers;
    if (service.errno !== kernel.errno && !answers.every(({ errno }) => OPEN_ANSWERS.has(errno)))
      this.#judge.differ(cmd, answers);
    for (const side of [0, 1] as const) {
      const { errno, attr } = answers[side];
      // Where a batch was refused before it began, count is as it was given.
      const done = errno === null ? (attr.count ?? elements.length) : errno === "EFAULT" ? (attr.count ?? 0) : 0;
      const known = this.#known(twin)[side];
      for (const [key, value] of elements.slice(0, done)) known.set(key, kept(twin, value));
      if (
        cmd === "BPF_MAP_UPDATE_ELEM" &&
        errno === null &&
        elements[0] !== undefined &&
        !this.#has(twin, side, [elements[0][0], kept(twin, elements[0][1])])
      )
        this.#judge.differ(`${cmd}: the element is not there`, answers);
      if (!this.#knows(twin, side, elementsOf(answers[side]))) this.#judge.differ(cmd, answers);
    }
  }

  /** A value that a lookup gave, and a key that a walk came by. */
  judgeElement(cmd: string, twin: Twin, answers: Pair<Answer>, key: string | null): void {
    this.judge(cmd, twin, answers, []);
    for (const side of [0, 1] as const) {
      const { value, next_key } = answers[side].attr;
      const known = this.#known(twin)[side];
      const right =
        (value === undefined || known.get(key?.slice(0, twin.keySize * 2) ?? "") === value) &&
        (next_key === undefined || known.has(next_key));
      if (!right) this.#judge.differ(cmd, answers);
    }
  }

  check(twin: Twin, when: string): void {
    for (const side of [0, 1] as const) {
      const found = this.#contents.of(twin, side);
      if (found !== null && (found.size > twin.maxEntries || !this.#knows(twin, side, found)))
        throw new Error(`an LRU map, ${when}: ${shown([...found])}, given ${shown([...this.#known(twin)[side]])}`);
    }
  }

  #knows(twin: Twin, side: Side, found: Elements): boolean {
    const known = this.#known(twin)[side];
    return [...found].every(([key, value]) => known.get(key) === value);
  }

  #has(twin: Twin, side: Side, [key, value]: readonly [string, string]): boolean {
    return this.#contents.of(twin, side)?.get(key) === value;
  }

  #known(twin: Twin): Pair<Map<string, string>> {
    const known = this.#given.get(twin) ?? [new Map(), new Map()];
    this.#given.set(twin, known);
    return known;
  }
}
