import { BPF_ELEM } from "../abi/bpf.ts";
import { ERRNO } from "../abi/errno.ts";
import type { ElementChange, MirrorRefusal } from "../engine/ports.ts";
import type { Element } from "../maps/map.ts";
import { type KernelElements, type Opened, unreadable, valueBytesOf, type WindowChange } from "./kernel_elements.ts";
import { refusal } from "./refusal.ts";

/**
 * Values in a line, pushed and popped: of what is there the kernel shows the next one alone, so that what programs push
 * and pop beside the state cannot be told. Changes name places, numbers that ascend; what is not at the end that values
 * are popped from was let go of to make room, which the kernel does itself when the next value is pushed.
 */
export class LineElements implements KernelElements {
  readonly look: KernelElements["look"];
  readonly shown: KernelElements["shown"];
  readonly scan: KernelElements["scan"];
  readonly #opened: Opened;
  /** The place that was filled last, where it is still there. */
  #newest = 0n;

  constructor(opened: Opened) {
    this.#opened = opened;
    ({
      look: this.look,
      shown: this.shown,
      scan: this.scan,
    } = unreadable("of a queue or a stack the kernel shows the next value alone"));
  }

  /** What is pushed behind a value that was refused would stand in its place: it is refused with it. */
  write(changes: readonly ElementChange[], failed: (change: ElementChange) => void = () => {}): MirrorRefusal | null {
    let first: MirrorRefusal | null = null;
    for (const change of changes) {
      const { key, value } = change;
      first ??= value === null ? this.#leave(placeOf(key)) : this.#push(placeOf(key), value);
      if (first !== null) failed(change);
    }
    return first;
  }

  /** Pops what went and pushes what came: what stands between is left, whatever programs did to it. */
  catchUp(
    elements: Iterable<Element>,
    changes: readonly WindowChange[],
    failed: (change: ElementChange) => void,
  ): MirrorRefusal | null {
    // A stack's place may have been popped and pushed to.
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
    const ret = bpf.update(fd, null, value, BPF_ELEM.BPF_EXIST);
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
