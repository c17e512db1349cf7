import { isDeepStrictEqual } from "node:util";
import { byKey, shown } from "./answers.ts";
import type { Judge } from "./judge.ts";
import type { Pair, Side } from "./pair.ts";
import { u32Hex } from "./requests.ts";
import type { StreamType } from "./shapes.ts";
import type { Twin, Twins } from "./twins.ts";
import { KEY_WANTS } from "./wanted.ts";

/** What is in a map that both have, seen by commands that change nothing. */

export type Elements = ReadonlyMap<string, string>;

/** The kernel promises no order of keys. */
export const UNORDERED: ReadonlySet<StreamType> = new Set([
  "HASH",
  "PERCPU_HASH",
  "LRU_HASH",
  "LRU_PERCPU_HASH",
  "HASH_OF_MAPS",
  "DEVMAP_HASH",
  "SOCKHASH",
]);

const SIDES = ["the service", "the kernel"] as const;

export class Contents {
  readonly #judge: Judge;
  readonly #twins: Twins;

  constructor(judge: Judge, twins: Twins) {
    this.#judge = judge;
    this.#twins = twins;
  }

  /** Both have the same elements; but for hashes in the same order. Undefined: the map is gone from both. */
  check(twin: Twin, when: string): Elements | undefined {
    const service = this.of(twin, 0);
    if (service === null && twin.lingers) this.waitUntilGone(twin);
    const kernel = this.of(twin, 1);
    if (service === null && kernel === null) return undefined;
    const order = (elements: Elements | null): unknown => {
      const all = elements === null ? null : [...elements];
      return UNORDERED.has(twin.type) ? all?.sort(byKey) : all;
    };
    if (!isDeepStrictEqual(order(service), order(kernel)))
      throw new Error(
        `contents of map ${this.#twins.all.indexOf(twin)}, a ${twin.type}, ${when}: service ${shown(order(service))}, kernel ${shown(order(kernel))}`,
      );
    return kernel ?? undefined;
  }

  /** For maps that the kernel lets go of later. */
  waitUntilGone(twin: Twin): void {
    this.#judge.settled(
      () => this.#twins.isThere(twin, 1),
      (there) => !there,
    );
  }

  /** Null: the map is gone. */
  of(twin: Twin, side: Side): Elements | null {
    const found = new Map<string, string>();
    const there = this.#twins.through(twin, side, (fd) => {
      if (KEY_WANTS[twin.type] !== undefined) this.#ofDescriptors(twin, side, fd, found);
      else if (twin.keySize === 0) found.set("", this.#lookup(twin, side, fd, null));
      else this.#walk(twin, side, fd, found);
    });
    return there ? found : null;
  }

  /** Every element by BPF_MAP_GET_NEXT_KEY, each once. */
  #walk(twin: Twin, side: Side, map_fd: number, found: Map<string, string>): void {
    const subject = this.#judge.subject(side);
    let key: string | null = null;
    for (;;) {
      const next = subject.bpf({ cmd: "BPF_MAP_GET_NEXT_KEY", attr: { map_fd, key } });
      if (next.errno !== null) {
        if (next.errno !== "ENOENT") found.set("", next.errno);
        return;
      }
      key = next.attr.next_key as string;
      if (found.has(key)) throw new Error(`walking map ${twin.ids[side]} of ${SIDES[side]}: ${key} comes twice`);
      found.set(key, this.#lookup(twin, side, map_fd, key));
    }
  }

  /** Local storage has no walk: what belongs to each object that is open. Keys are their places in the table. */
  #ofDescriptors(twin: Twin, side: Side, fd: number, found: Map<string, string>): void {
    for (const [at, { fds }] of [...this.#twins.maps, ...this.#twins.objects].entries())
      found.set(String(at), this.#lookup(twin, side, fd, u32Hex(fds[side])));
  }

  #lookup(twin: Twin, side: Side, map_fd: number, key: string | null): string {
    const answer = this.#judge.subject(side).bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd, key } });
    return this.#twins.readable(twin, side, answer).attr.value ?? String(answer.errno);
  }
}

export function bothContents(contents: Contents, twin: Twin): Pair<Elements | null> {
  return [contents.of(twin, 0), contents.of(twin, 1)];
}
