import { BPF_ELEM } from "../abi/bpf.ts";
import { ERRNO } from "../abi/errno.ts";
import type { ElementChange, MirrorRefusal, MirrorScan } from "../engine/ports.ts";
import type { Element } from "../maps/map.ts";
import { type Opened, valueBytesOf } from "./kernel_elements.ts";
import { refusal } from "./refusal.ts";

/**
 * Values in a line, pushed and popped: of what is there the kernel shows the next one alone, so that what programs push
 * and pop beside the state cannot be told. Changes name places, numbers that ascend; what is not at the end that values
 * are popped from was let go of to make room, which the kernel does itself when the next value is pushed.
 */
export class LineElements {
  readonly #opened: Opened;
  /** The place that was filled last, where it is still there. */
  #newest = 0n;

  constructor(opened: Opened) {
    this.#opened = opened;
  }

  write(changes: readonly ElementChange[]): MirrorRefusal | null {
    let first: MirrorRefusal | null = null;
    for (const { key, value } of changes) {
      const refused = value === null ? this.#leave(placeOf(key)) : this.#push(placeOf(key), value);
      first ??= refused;
    }
    return first;
  }

  /** Takes everything out, and pushes what should be there: it cannot be compared. */
  repair(elements: Iterable<Element>): MirrorRefusal | null {
    const value = Buffer.alloc(valueBytesOf(this.#opened));
    for (let left = 2 * this.#opened.map.maxEntries; left > 0; left--) {
      const ret = this.#opened.bpf.take(this.#opened.fd, null, value);
      if (ret === -ERRNO.ENOENT) break;
      if (ret < 0) return this.#refusal("BPF_MAP_LOOKUP_AND_DELETE_ELEM", ret, "popping");
    }
    let first: MirrorRefusal | null = null;
    for (const { key, value } of elements) {
      const refused = this.#push(placeOf(key), value);
      first ??= refused;
    }
    return first;
  }

  // biome-ignore lint/correctness/useYield: it answers without a piece
  *scan(): MirrorScan {
    return { untold: "of a queue or a stack the kernel shows the next value alone" };
  }

  /** Whether the line may be taken for equal: what is popped next is. All of it would have to be popped to be sure. */
  trust(elements: Iterable<Element>): boolean {
    let next: Buffer | null = null;
    let newest = 0n;
    for (const { key, value } of elements) {
      newest = placeOf(key);
      if (next === null || this.#opened.type.filled === "stack") next = value;
    }
    const value = Buffer.alloc(valueBytesOf(this.#opened));
    const ret = this.#opened.bpf.lookup(this.#opened.fd, null, value);
    if (next === null ? ret !== -ERRNO.ENOENT : ret < 0 || !value.equals(next)) return false;
    this.#newest = newest;
    return true;
  }

  #push(place: bigint, value: Buffer): MirrorRefusal | null {
    const { bpf, fd } = this.#opened;
    this.#newest = place;
    const ret = bpf.update(fd, null, value, BPF_ELEM.BPF_EXIST);
    return ret < 0 ? this.#refusal("BPF_MAP_UPDATE_ELEM", ret, "pushing a value to") : null;
  }

  #leave(place: bigint): MirrorRefusal | null {
    const { bpf, fd, type } = this.#opened;
    const isPopped = type.filled === "queue" || place === this.#newest;
    if (!isPopped) return null;
    if (place === this.#newest) this.#newest--;
    const ret = bpf.take(fd, null, Buffer.alloc(valueBytesOf(this.#opened)));
    return ret < 0 && ret !== -ERRNO.ENOENT
      ? this.#refusal("BPF_MAP_LOOKUP_AND_DELETE_ELEM", ret, "popping a value from")
      : null;
  }

  #refusal(operation: string, ret: number, doing: string): MirrorRefusal {
    return refusal(this.#opened.map.id, operation, ret, `${doing} the kernel map`);
  }
}

function placeOf(key: Buffer): bigint {
  return key.readBigUInt64BE(0);
}
