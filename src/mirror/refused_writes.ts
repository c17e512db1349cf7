/**
 * Refused writes. Each is kept with the kernel's value at that place, and is tried again, each time later. If that
 * value has changed since, somebody else has written, and the map's policy decides. Values of a queue or stack wait for
 * the refused one before them.
 */

import type { ElementChange } from "../engine/ports.ts";

/**
 * A write that the kernel refused. `base`: the kernel's value at that time; null: there was no element; undefined: the
 * kernel does not show it.
 */
export interface RefusedWrite extends ElementChange {
  readonly base: Buffer | null | undefined;
}

/** If there are more refused writes, they are not kept, and the whole map is taken up again. */
const REFUSED_MAX = 65_536;

/** Stores which elements were refused, for the next start. */
export interface KeptKeys {
  add(identity: string): void;
  delete(identity: string): void;
}

/**
 * The refused writes of one map, the last one of each element, in their order. In a queue or a stack (`isLine`), each
 * push and pop counts: a place may be popped and pushed again, and a value that was never pushed is not popped.
 */
export class RefusedWrites {
  readonly #identity: (key: Buffer) => string;
  readonly #isLine: boolean;
  readonly #kept: KeptKeys;
  readonly #writes = new Map<string, RefusedWrite>();
  /** Whether there were more than REFUSED_MAX. */
  overflown = false;

  constructor(identity: (key: Buffer) => string, isLine: boolean, kept: KeptKeys) {
    this.#identity = identity;
    this.#isLine = isLine;
    this.#kept = kept;
  }

  get size(): number {
    return this.#writes.size;
  }

  has(key: Buffer): boolean {
    const identity = this.#identity(key);
    return this.#writes.has(identity) || (this.#isLine && this.#writes.has(popOf(identity)));
  }

  add(write: RefusedWrite): void {
    const identity = this.#identity(write.key);
    const isPop = this.#isLine && write.value === null;
    const wasThere = this.#writes.delete(identity);
    if (isPop && wasThere) {
      if (!this.#writes.has(popOf(identity))) this.#kept.delete(identity);
      return;
    }
    this.#kept.add(identity);
    if (this.#writes.size >= REFUSED_MAX) this.overflown = true;
    else
      this.#writes.set(isPop ? popOf(identity) : identity, {
        ...write,
        key: Buffer.from(write.key),
        value: copy(write.value),
      });
  }

  /** Removes the write of an element that was written, or that another program has changed. */
  delete(key: Buffer): void {
    const identity = this.#identity(key);
    const written = this.#isLine ? [identity, popOf(identity)] : [identity];
    const wasThere = written.map((one) => this.#writes.delete(one));
    if (wasThere.includes(true)) this.#kept.delete(identity);
  }

  all(): readonly RefusedWrite[] {
    return [...this.#writes.values()];
  }
}

/** A key that no place has. */
function popOf(place: string): string {
  return `pop ${place}`;
}

function copy(value: Buffer | null): Buffer | null {
  return value === null ? null : Buffer.from(value);
}
