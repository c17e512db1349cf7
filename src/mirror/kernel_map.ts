import { ERRNO } from "../abi/errno.ts";
import type { ElementChange, MirrorRefusal } from "../engine/ports.ts";
import type { Host, MapRecord } from "../maps/map.ts";
import { mapType } from "../maps/types.ts";
import type { Bpf } from "./bpf.ts";
import { fdinfo } from "./fdinfo.ts";
import type { MirroredType } from "./mirrored.ts";
import { refusal } from "./refusal.ts";

/** The most that goes into one batch command: nothing else happens in this process until the kernel has done it. */
const BATCH_ENTRIES_MAX = 65_536;
const BATCH_BYTES_MAX = 4 * 1024 * 1024;

/** Bytes of a key that a refusal shows. */
const SHOWN_KEY_BYTES = 16;

/**
 * A kernel map, held by an fd. Batches are tried first; a kernel that has none for this type (they came with 5.6, later
 * for some types) gets one command an element.
 */
export class KernelMap {
  readonly map: MapRecord;
  readonly type: MirroredType;
  readonly fd: number;
  /** The kernel's id of it. */
  readonly id: number;
  /** Bytes of a value in user space. */
  readonly valueBytes: number;
  readonly #bpf: Bpf;
  readonly #batchEntries: number;
  #batches = true;

  constructor(bpf: Bpf, host: Host, type: MirroredType, map: MapRecord, fd: number, id: number) {
    this.#bpf = bpf;
    this.type = type;
    this.map = map;
    this.fd = fd;
    this.id = id;
    this.valueBytes = mapType(map.type)?.valueBytes(map, host) ?? map.valueSize;
    const fitting = Math.floor(BATCH_BYTES_MAX / (map.keySize + this.valueBytes));
    this.#batchEntries = Math.max(1, Math.min(BATCH_ENTRIES_MAX, fitting, map.maxEntries));
  }

  /**
   * Carries changes, in their order: a program never sees a state that the map did not go through. Goes on behind
   * what is refused, and gives the first refusal. To delete what is gone is none: a program may have been there first.
   */
  write(changes: readonly ElementChange[]): MirrorRefusal | null {
    let first: MirrorRefusal | null = null;
    for (let from = 0; from < changes.length; ) {
      const to = this.#runEnd(changes, from);
      for (let at = from + this.#batch(changes, from, to); at < to; at++) {
        const refused = this.#one(changes[at] as ElementChange);
        if (first === null) first = refused;
      }
      from = to;
    }
    return first;
  }

  /**
   * Every element, in the kernel's order. The buffers are the reader's during its call only; the map must not be
   * written from it. What programs change meanwhile may be seen or not, or seen twice.
   */
  read(each: (key: Buffer, value: Buffer) => void): MirrorRefusal | null {
    const bpf = this.#bpf;
    const { keySize, maxEntries } = this.map;
    let room = this.#batchEntries;
    let position: Buffer | null = null;
    let next: Buffer = Buffer.alloc(this.type.positionBytes(this.map));
    let spare: Buffer = Buffer.alloc(next.length);
    for (let seen = 0; seen <= 4 * maxEntries; seen += bpf.count) {
      bpf.room(room * keySize, room * this.valueBytes);
      const ret = bpf.lookupBatch(this.fd, position, next, bpf.keys, bpf.values, room);
      if (position === null && unsupported(ret)) return this.#walk(each);
      // A bucket that is larger than the room: the position has not moved.
      if (ret === -ERRNO.ENOSPC && room < maxEntries) {
        room = Math.min(2 * room, maxEntries);
        continue;
      }
      if (ret < 0 && ret !== -ERRNO.ENOENT) return this.#refusal("BPF_MAP_LOOKUP_BATCH", ret, "reading the kernel map");
      const { keys, values, count } = bpf;
      for (let at = 0; at < count; at++)
        each(
          keys.subarray(at * keySize, (at + 1) * keySize),
          values.subarray(at * this.valueBytes, (at + 1) * this.valueBytes),
        );
      if (ret === -ERRNO.ENOENT) return null;
      position = next;
      next = spare;
      spare = position;
    }
    return this.#changing("BPF_MAP_LOOKUP_BATCH");
  }

  freeze(): MirrorRefusal | null {
    const ret = this.#bpf.freeze(this.fd);
    return ret < 0 ? this.#refusal("BPF_MAP_FREEZE", ret, "freezing the kernel map") : null;
  }

  isFrozen(): boolean {
    return fdinfo(this.fd)?.frozen === true;
  }

  close(): void {
    this.#bpf.close(this.fd);
  }

  /** Where the changes of the same kind that begin at `from` end, or would be too many for a batch. */
  #runEnd(changes: readonly ElementChange[], from: number): number {
    const most = Math.min(changes.length, from + this.#batchEntries);
    const gone = (changes[from] as ElementChange).value === null;
    let to = from + 1;
    while (to < most && ((changes[to] as ElementChange).value === null) === gone) to++;
    return to;
  }

  /** How many of a run one command could carry. */
  #batch(changes: readonly ElementChange[], from: number, to: number): number {
    const count = to - from;
    if (count === 1 || !this.#batches) return 0;
    const bpf = this.#bpf;
    const keyBytes = this.map.keySize;
    const valueBytes = this.valueBytes;
    const gone = (changes[from] as ElementChange).value === null;
    bpf.room(count * keyBytes, count * valueBytes);
    const { keys, values } = bpf;
    for (let at = 0; at < count; at++) {
      const { key, value } = changes[from + at] as ElementChange;
      keys.set(key, at * keyBytes);
      if (value !== null) values.set(value, at * valueBytes);
    }
    const ret = gone ? bpf.deleteBatch(this.fd, keys, count) : bpf.updateBatch(this.fd, keys, values, count);
    if (unsupported(ret)) this.#batches = false;
    return bpf.count;
  }

  #one({ key, value }: ElementChange): MirrorRefusal | null {
    if (value !== null) {
      const ret = this.#bpf.update(this.fd, key, value);
      if (ret === 0) return null;
      return this.#refusal("BPF_MAP_UPDATE_ELEM", ret, `updating element ${shown(key)} of the kernel map`);
    }
    const ret = this.#bpf.delete(this.fd, key);
    if (ret === 0 || ret === -ERRNO.ENOENT) return null;
    return this.#refusal("BPF_MAP_DELETE_ELEM", ret, `deleting element ${shown(key)} of the kernel map`);
  }

  /** read() by GET_NEXT_KEY. A key that a program deletes meanwhile makes the walk start again. */
  #walk(each: (key: Buffer, value: Buffer) => void): MirrorRefusal | null {
    const value = Buffer.alloc(this.valueBytes);
    let key: Buffer | null = null;
    let next: Buffer = Buffer.alloc(this.map.keySize);
    let spare: Buffer = Buffer.alloc(this.map.keySize);
    for (let seen = 0; seen <= 4 * this.map.maxEntries; seen++) {
      const ret = this.#bpf.nextKey(this.fd, key, next);
      if (ret === -ERRNO.ENOENT) return null;
      if (ret < 0) return this.#refusal("BPF_MAP_GET_NEXT_KEY", ret, "reading the kernel map");
      const found = this.#bpf.lookup(this.fd, next, value);
      if (found === 0) each(next, value);
      else if (found !== -ERRNO.ENOENT)
        return this.#refusal("BPF_MAP_LOOKUP_ELEM", found, `reading element ${shown(next)} of the kernel map`);
      key = next;
      next = spare;
      spare = key;
    }
    return this.#changing("BPF_MAP_GET_NEXT_KEY");
  }

  #changing(operation: string): MirrorRefusal {
    return this.#refusal(operation, -ERRNO.EAGAIN, "reading the kernel map, which changes faster than it can be read");
  }

  #refusal(operation: string, ret: number, attempted: string): MirrorRefusal {
    return refusal(this.map.id, operation, ret, attempted);
  }
}

/** The command is unknown to this kernel (EINVAL), or it is, but not for this type. */
function unsupported(ret: number): boolean {
  return ret === -ERRNO.ENOTSUPP || ret === -ERRNO.EINVAL;
}

function shown(key: Buffer): string {
  const hex = key.toString("hex", 0, SHOWN_KEY_BYTES);
  return key.length > SHOWN_KEY_BYTES ? `${hex}... (${key.length} bytes)` : hex;
}
