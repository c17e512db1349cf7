import { BPF_ELEM } from "../abi/bpf.ts";
import { ERRNO } from "../abi/errno.ts";
import type { ElementChange, MirrorRefusal } from "../engine/ports.ts";
import type { Element } from "../maps/map.ts";
import { type KernelElements, type Opened, unreadable, valueBytesOf, type WindowChange } from "./kernel_elements.ts";
import { refusal } from "./refusal.ts";

/**
 * The values of a queue or a stack. The kernel shows only the value that is popped next, so pushes and pops by programs
 * are not seen. The key of a change is a place, a number that ascends. If a value is deleted that is not at the end
 * from which values are popped, the map dropped it to make room, and the kernel map does the same when the next value
 * is pushed.
 */
export class LineElements implements KernelElements {
  readonly look: KernelElements["look"];
  readonly shown: KernelElements["shown"];
  readonly scan: KernelElements["scan"];
  readonly #opened: Opened;
  /** The place of the last pushed value that is still there. */
  #newest = 0n;

  constructor(opened: Opened) {
    this.#opened = opened;
    ({
      look: this.look,
      shown: this.shown,
      scan: this.scan,
    } = unreadable("the kernel shows only the next value of a queue or a stack"));
  }

  /** If a push is refused, all later changes are refused with it: a later value would otherwise take its place. */
  write(changes: readonly ElementChange[], failed: (change: ElementChange) => void = () => {}): MirrorRefusal | null {
    let first: MirrorRefusal | null = null;
    for (const change of changes) {
      const { key, value } = change;
      first ??= value === null ? this.#leave(placeOf(key)) : this.#push(placeOf(key), value);
      if (first !== null) failed(change);
    }
    return first;
  }

  /**
   * Pops the deleted values and pushes the new ones. Values between them stay, whatever programs have done to them.
   */
  catchUp(
    elements: Iterable<Element>,
    changes: readonly WindowChange[],
    failed: (change: ElementChange) => void,
  ): MirrorRefusal | null {
    // A place of a stack that was popped and pushed again is in both lists.
    const others = changes.filter(({ before, now }) => before === null || now === null || !before.equals(now));
    const came = others.filter(({ now }) => now !== null);
    const gone = others.filter(({ before }) => before !== null);
    const isNew = new Set(came.map(({ key }) => placeOf(key)));
    const places = [...elements].map(({ key }) => placeOf(key)).filter((place) => !isNew.has(place));
    this.#newest = [...places, ...gone.map(({ key }) => placeOf(key))].reduce((a, b) => (a > b ? a : b), 0n);
    const popped = gone.sort(byPlace);
    if (this.#opened.type.filled === "stack") popped.reverse();
    const pushed = came.sort(byPlace).map(({ key, now }) => ({ key, value: now }));
    return this.write([...popped.map(({ key }) => ({ key, value: null })), ...pushed], failed);
  }

  #push(place: bigint, value: Buffer): MirrorRefusal | null {
    const { bpf, fd } = this.#opened;
    const ret = bpf.update(fd, null, value, Number(BPF_ELEM.BPF_EXIST));
    if (ret < 0) return this.#refusal("BPF_MAP_UPDATE_ELEM", ret, "pushing a value to");
    this.#newest = place;
    return null;
  }

  #leave(place: bigint): MirrorRefusal | null {
    const { bpf, fd, type } = this.#opened;
    const isPopped = type.filled === "queue" || place === this.#newest;
    if (!isPopped) return null;
    const ret = bpf.take(fd, null, Buffer.alloc(valueBytesOf(this.#opened)));
    if (ret < 0 && ret !== -ERRNO.ENOENT)
      return this.#refusal("BPF_MAP_LOOKUP_AND_DELETE_ELEM", ret, "popping a value from");
    if (place === this.#newest) this.#newest--;
    return null;
  }

  #refusal(operation: string, ret: number, doing: string): MirrorRefusal {
    return refusal(this.#opened.map.id, operation, ret, `${doing} the kernel map`);
  }
}

function placeOf(key: Buffer): bigint {
  return key.readBigUInt64BE(0);
}

function byPlace({ key: a }: WindowChange, { key: b }: WindowChange): number {
  return a.compare(b);
}
