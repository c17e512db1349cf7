/**
 * Elements of kernel maps with keys: read, compared, written. A scan can yield missing elements before extra ones
 * (`ScanOrder`). So, if a value has moved to another key, the element with the new key is written before the one with
 * the old key is deleted, and programs always find one of them.
 *
 * The kernel frees a map a moment later than the state does. Until then, changes of other maps may fail: a socket that
 * was in the freed map is busy (EBUSY), so a write is tried again, for at most 0.1 s for all changes of one call. An
 * update of local storage fails with EAGAIN while the kernel frees the last element of the same owner; it is made again
 * like every refused write (`refused_writes.ts`).
 */

import { BPF_ELEM } from "../abi/bpf.ts";
import { ERRNO } from "../abi/errno.ts";
import type {
  ElementChange,
  ElementDifference,
  MirrorRefusal,
  MirrorScan,
  MirrorSource,
  ScanOrder,
  Untold,
} from "../engine/ports.ts";
import type { Element } from "../maps/map.ts";
import { ElementTable } from "./element_table.ts";
import {
  type KernelElements,
  type Opened,
  shownKey,
  unsupported,
  valueBytesOf,
  type WindowChange,
} from "./kernel_elements.ts";
import type { Lacking } from "./map_types.ts";
import { refusal } from "./refusal.ts";

/** The most elements and bytes of one batch command: this thread does nothing else until the kernel has run it. */
const BATCH_ENTRIES_MAX = 65_536;
const BATCH_BYTES_MAX = 4 * 1024 * 1024;

/** Elements that a scan looks at in one piece; commands run between two pieces. */
const SCAN_ENTRIES = 2048;

/**
 * The tries after EBUSY, shared by all changes of a command. The kernel frees a map a moment after its last descriptor
 * is closed, and the map's sockets are busy until then. The tries are limited because the command must be answered.
 */
const BUSY_TRIES = 100;
const BUSY_MS = 1;
const NEVER_WOKEN = new Int32Array(new SharedArrayBuffer(4));

/**
 * Receives elements of the kernel map: keys and values end to end, and the number of the element in them. `values` null: the kernel
 * does not show values. Both are valid only during the call.
 */
type EachElement = (keys: Buffer, values: Buffer | null, at: number) => void;

/**
 * Elements of types with keys. Batches are tried first. If the kernel has none for the type (they came with Linux 5.6,
 * for some types later), each element gets a command of its own.
 */
export class KeyedElements implements KernelElements {
  readonly #opened: Opened;
  /** The size of a value in user space, in bytes. */
  readonly #valueBytes: number;
  readonly #batchEntries: number;
  #batches = true;
  #triesLeft = 0;

  constructor(opened: Opened) {
    this.#opened = opened;
    this.#valueBytes = valueBytesOf(opened);
    const { keySize, maxEntries } = opened.map;
    const fitting = Math.floor(BATCH_BYTES_MAX / (keySize + this.#valueBytes));
    this.#batchEntries = Math.max(1, Math.min(BATCH_ENTRIES_MAX, fitting, maxEntries));
  }

  /**
   * Deleting an absent element is not a refusal, because a program may have deleted it. An element that is deleted and
   * written again is overwritten, so that no program finds it missing in between.
   */
  write(changes: readonly ElementChange[], failed: (change: ElementChange) => void = () => {}): MirrorRefusal | null {
    if (this.#opened.type.refers === "never") return this.#write(changes, (at) => failed(changes[at] as ElementChange));
    const given: ElementChange[] = [];
    const asked: ElementChange[] = [];
    let first: MirrorRefusal | null = null;
    for (const [at, change] of changes.entries()) {
      if (change.value === null && isReplaced(change, changes[at + 1])) continue;
      const known = this.#given(change);
      if (!("lacking" in known)) {
        given.push(known);
        asked.push(change);
      } else if (change.value !== null) {
        // An object that the kernel lacks is an element of none of its maps, so a deletion has nothing to do.
        first ??= this.#lacks(change.key, known);
        failed(change);
      }
    }
    const refused = this.#write(given, (at) => failed(asked[at] as ElementChange));
    return first ?? refused;
  }

  /** See KernelElements. */
  look(key: Buffer): Buffer | null | undefined {
    const { bpf, fd, type, refs } = this.#opened;
    if (type.told !== "all" && type.told !== "asked") return undefined;
    if (!type.exact && !this.#walked()(key)) return null;
    const given = type.keyGiven(refs, key);
    if ("lacking" in given) return null;
    const value = Buffer.alloc(this.#valueBytes);
    const ret = bpf.lookup(fd, given, value);
    if (ret === 0) return value;
    return ret === -ERRNO.ENOENT ? null : undefined;
  }

  /**
   * The value that a lookup returns for an element with this value in the ledger. null: there is no element, or the
   * kernel lacks the object that the value names.
   */
  shown(value: Buffer | null): Buffer | null {
    const { type, refs, map } = this.#opened;
    if (value === null) return type.absent === "zeros" ? Buffer.alloc(this.#valueBytes) : null;
    const shown = type.ledgerShown(refs, map, value);
    return "lacking" in shown ? null : shown;
  }

  catchUp(
    _elements: Iterable<Element>,
    changes: readonly WindowChange[],
    failed: (change: ElementChange) => void,
  ): MirrorRefusal | null {
    return this.write(
      changes.map(({ key, now }) => ({ key, value: now })),
      failed,
    );
  }

  /**
   * Compares in one piece if `first` is "at once", if the kernel does not show elements by key, or if it shows
   * references in a form of its own.
   */
  *scan(source: MirrorSource, first: ScanOrder): MirrorScan {
    const { type } = this.#opened;
    if (first === "at once" || type.refers !== "never" || type.told !== "all") {
      const missing: ElementDifference[] = [];
      const others: ElementDifference[] = [];
      const untold = this.#compare(source.elements(), (difference) =>
        (difference.kernel === null ? missing : others).push(difference),
      );
      yield* first === "ledger" ? [missing, others] : [others, missing];
      return untold;
    }
    if (first === "ledger" && type.absent === "nothing") yield* this.#missing(source);
    const unread = yield* this.#readable(source);
    if (unread !== null) return unread;
    if (first === "kernel" && type.absent === "nothing") yield* this.#missing(source);
    return null;
  }

  /** Yields elements that the kernel has and the ledger lacks, or has with another value. */
  *#readable(source: MirrorSource): Generator<readonly ElementDifference[], MirrorRefusal | null> {
    let piece: ElementDifference[] = [];
    const pages = this.#pages(SCAN_ENTRIES, (keys, values, at) => {
      const { key, value: kernel } = this.#element(keys, values, at);
      const element = source.element(key);
      if (element === null || kernel?.equals(element.value) !== true || !key.equals(element.key))
        piece.push({ key: Buffer.from(key), ledger: element?.value ?? null, kernel: kernel && Buffer.from(kernel) });
    });
    for (let page = pages.next(); ; page = pages.next()) {
      yield piece;
      piece = [];
      if (page.done === true) return page.value;
    }
  }

  /** Reads all elements, except zeros in an array. */
  read(each: (key: Buffer, value: Buffer) => void): MirrorRefusal | null {
    const zeros = Buffer.alloc(this.#valueBytes);
    return this.#visit((keys, values, at) => {
      const { key, value } = this.#element(keys, values, at);
      if (value !== null && (this.#opened.type.absent === "nothing" || !value.equals(zeros))) each(key, value);
    });
  }

  /** Compares in one piece. If the kernel does not show values, only keys are compared. */
  #compare(elements: Iterable<Element>, each: (difference: ElementDifference) => void): MirrorRefusal | Untold | null {
    const { type } = this.#opened;
    if (type.told === "slots") return { untold: "the kernel does not show which slots of this type are filled" };
    if (type.told === "asked") {
      for (const { key, value, found } of this.#unmet(elements)) each({ key, ledger: value, kernel: found });
      return null;
    }
    const wanted = this.#tableOf(elements);
    const { keySize } = this.#opened.map;
    const zeros = Buffer.alloc(this.#valueBytes);
    const unread = this.#visit((keys, values, at) => {
      const keyAt = at * keySize;
      const valueAt = at * this.#valueBytes;
      const index = wanted.find(keys, keyAt);
      if (index >= 0) wanted.mark(index);
      if (index >= 0 && (values === null || this.#isMet(wanted, index, keys, keyAt, values, valueAt))) return;
      const kernel = values?.subarray(valueAt, valueAt + this.#valueBytes) ?? null;
      if (index < 0 && type.absent === "zeros" && kernel?.equals(zeros) === true) return;
      const ledger = index < 0 ? null : this.#shown(wanted.value(index));
      each({
        key: Buffer.from(keys.subarray(keyAt, keyAt + keySize)),
        ledger: ledger && Buffer.from(ledger),
        kernel: kernel && Buffer.from(kernel),
      });
    });
    if (unread !== null) return unread;
    for (const index of wanted.unmarked()) {
      const ledger = this.#shown(wanted.value(index));
      each({ key: Buffer.from(wanted.key(index)), ledger: ledger && Buffer.from(ledger), kernel: null });
    }
    return null;
  }

  /** All values of a map are of one size. */
  #tableOf(elements: Iterable<Element>): ElementTable {
    const { map, type } = this.#opened;
    let table: ElementTable | null = null;
    const sized = (valueBytes: number): ElementTable =>
      new ElementTable({ keyBytes: map.keySize, valueBytes }, type.significantBits(map));
    for (const element of elements) {
      table ??= sized(element.value.length);
      table.add(element);
    }
    return table ?? sized(0);
  }

  /** Yields elements of the ledger that the kernel lacks. */
  *#missing(source: MirrorSource): Generator<readonly ElementDifference[], void> {
    for (let after: Buffer | null = null; ; ) {
      const page: readonly Element[] = source.after(after, SCAN_ENTRIES);
      const isThere = this.#opened.type.exact ? this.#found() : this.#walked();
      yield page.filter(({ key }) => !isThere(key)).map(({ key, value }) => ({ key, ledger: value, kernel: null }));
      if (page.length < SCAN_ENTRIES) return;
      after = (page.at(-1) as Element).key;
    }
  }

  #found(): (key: Buffer) => boolean {
    const { bpf, fd } = this.#opened;
    const value = Buffer.alloc(this.#valueBytes);
    return (key) => bpf.lookup(fd, key, value) !== -ERRNO.ENOENT;
  }

  /**
   * A lookup in an LPM trie also matches covering prefixes, so it cannot test for presence. BPF_MAP_GET_NEXT_KEY can:
   * for an absent key it returns the map's first key.
   */
  #walked(): (key: Buffer) => boolean {
    const { bpf, fd, map } = this.#opened;
    const first = Buffer.alloc(map.keySize);
    if (bpf.nextKey(fd, null, first) === -ERRNO.ENOENT) return () => false;
    const next = Buffer.alloc(map.keySize);
    return (key) => bpf.nextKey(fd, key, next) === -ERRNO.ENOENT || !next.equals(first);
  }

  #element(keys: Buffer, values: Buffer | null, at: number): { readonly key: Buffer; readonly value: Buffer | null } {
    const { keySize } = this.#opened.map;
    const bytes = this.#valueBytes;
    return {
      key: keys.subarray(at * keySize, (at + 1) * keySize),
      value: values === null ? null : values.subarray(at * bytes, (at + 1) * bytes),
    };
  }

  /** Reads all elements in one piece. */
  #visit(each: EachElement): MirrorRefusal | null {
    const pages = this.#pages(this.#batchEntries, each);
    for (;;) {
      const { value, done } = pages.next();
      if (done === true) return value;
    }
  }

  /**
   * Reads all elements page by page, in the kernel's order. `each` must not write to the map. Changes that programs make during the walk may be seen, missed, or seen twice.
   */
  *#pages(entries: number, each: EachElement): Generator<void, MirrorRefusal | null> {
    const { bpf, fd, type, map } = this.#opened;
    if (type.told !== "all") return yield* this.#walk(entries, each, false);
    const { keySize } = map;
    const most = 4 * type.shape(map, this.#opened.cpus.machine).maxEntries;
    let room = Math.min(entries, this.#batchEntries);
    let position: Buffer | null = null;
    let next: Buffer = Buffer.alloc(type.positionBytes(map));
    let spare: Buffer = Buffer.alloc(next.length);
    for (let seen = 0; seen <= most; ) {
      bpf.room(room * keySize, room * this.#valueBytes);
      const ret = bpf.lookupBatch(fd, position, next, bpf.keys, bpf.values, room);
      if (position === null && unsupported(ret)) return yield* this.#walk(entries, each, true);
      // A bucket has more elements than the buffers have room for. The position has not moved, so the page is read
      // again.
      if (ret === -ERRNO.ENOSPC && room < most) {
        room = Math.min(2 * room, most);
        continue;
      }
      if (ret < 0 && ret !== -ERRNO.ENOENT) return this.#refusal("BPF_MAP_LOOKUP_BATCH", ret, "reading the kernel map");
      // Taken before the yield, because all scans share these buffers, and another one may run in between.
      const { keys, values, count } = bpf;
      seen += count;
      for (let at = 0; at < count; at++) each(keys, values, at);
      if (ret === -ERRNO.ENOENT) return null;
      position = next;
      next = spare;
      spare = position;
      yield;
    }
    return this.#changing("BPF_MAP_LOOKUP_BATCH");
  }

  /** As #pages, with BPF_MAP_GET_NEXT_KEY. If a program deletes the current key, the walk starts again. */
  *#walk(entries: number, each: EachElement, withValues: boolean): Generator<void, MirrorRefusal | null> {
    const { bpf, fd, map } = this.#opened;
    const value = Buffer.alloc(this.#valueBytes);
    let key: Buffer | null = null;
    let next: Buffer = Buffer.alloc(map.keySize);
    let spare: Buffer = Buffer.alloc(map.keySize);
    for (let seen = 0; seen <= 4 * map.maxEntries; seen++) {
      const ret = bpf.nextKey(fd, key, next);
      if (ret === -ERRNO.ENOENT) return null;
      if (ret < 0) return this.#refusal("BPF_MAP_GET_NEXT_KEY", ret, "reading the kernel map");
      const found = withValues ? bpf.lookup(fd, next, value) : 0;
      if (found === 0) each(next, withValues ? value : null, 0);
      else if (found !== -ERRNO.ENOENT)
        return this.#refusal("BPF_MAP_LOOKUP_ELEM", found, `reading element ${shownKey(next)} of the kernel map`);
      key = next;
      next = spare;
      spare = key;
      if (seen % entries === entries - 1) yield;
    }
    return this.#changing("BPF_MAP_GET_NEXT_KEY");
  }

  /** Yields elements of the ledger that the kernel, asked by key, lacks or has with another value. */
  *#unmet(elements: Iterable<Element>): Iterable<Element & { readonly found: Buffer | null }> {
    const { bpf, fd, refs, type } = this.#opened;
    for (const element of elements) {
      const key = type.keyGiven(refs, element.key);
      const value = Buffer.alloc(this.#valueBytes);
      const found = "lacking" in key || bpf.lookup(fd, key, value) < 0 ? null : value;
      if (found?.equals(element.value) !== true) yield { ...element, found };
    }
  }

  #isMet(wanted: ElementTable, index: number, keys: Buffer, keyAt: number, values: Buffer, valueAt: number): boolean {
    // A ledger of a machine with another number of CPUs has values of another size.
    if (this.#opened.type.refers === "never")
      return wanted.valueBytes === this.#valueBytes && wanted.is(index, keys, keyAt, values, valueAt);
    const { keySize } = this.#opened.map;
    const shown = this.#shown(wanted.value(index));
    return (
      wanted.key(index).equals(keys.subarray(keyAt, keyAt + keySize)) &&
      shown?.equals(values.subarray(valueAt, valueAt + this.#valueBytes)) === true
    );
  }

  /** null: the kernel lacks the object that the value names. */
  #shown(value: Buffer): Buffer | null {
    const { type, refs, map } = this.#opened;
    const shown = type.valueShown(refs, map, value);
    return "lacking" in shown ? null : shown;
  }

  #given({ key, value, flags }: ElementChange): ElementChange | Lacking {
    const { type, refs, map } = this.#opened;
    const keyGiven = type.keyGiven(refs, key);
    if ("lacking" in keyGiven) return keyGiven;
    const valueGiven = value === null ? null : type.valueGiven(refs, map, value);
    return valueGiven !== null && "lacking" in valueGiven
      ? valueGiven
      : { key: keyGiven, value: valueGiven, ...(flags === undefined ? {} : { flags }) };
  }

  /** `failed` is called with the index of each refused change. */
  #write(changes: readonly ElementChange[], failed: (at: number) => void): MirrorRefusal | null {
    let first: MirrorRefusal | null = null;
    this.#triesLeft = BUSY_TRIES;
    for (let from = 0; from < changes.length; ) {
      const to = this.#runEnd(changes, from);
      for (let at = from + this.#batch(changes, from, to); at < to; at++) {
        const refused = this.#one(changes[at] as ElementChange);
        if (refused === null) continue;
        first ??= refused;
        failed(at);
      }
      from = to;
    }
    return first;
  }

  /** The end of the run of changes of the same kind that begins at `from`, limited to one batch. */
  #runEnd(changes: readonly ElementChange[], from: number): number {
    const most = Math.min(changes.length, from + this.#batchEntries);
    const { value, flags } = changes[from] as ElementChange;
    let to = from + 1;
    // The only flag that a batch can have for its elements is BPF_F_LOCK.
    if (flags !== undefined) return to;
    for (; to < most; to++) {
      const next = changes[to] as ElementChange;
      if (next.flags !== undefined || (next.value === null) !== (value === null)) break;
    }
    return to;
  }

  /** The number of changes of a run that one batch command has carried out. */
  #batch(changes: readonly ElementChange[], from: number, to: number): number {
    const count = to - from;
    if (count === 1 || !this.#batches) return 0;
    const { bpf, fd, map } = this.#opened;
    const keyBytes = map.keySize;
    const valueBytes = this.#valueBytes;
    const gone = (changes[from] as ElementChange).value === null;
    bpf.room(count * keyBytes, count * valueBytes);
    const { keys, values } = bpf;
    for (let at = 0; at < count; at++) {
      const { key, value } = changes[from + at] as ElementChange;
      keys.set(key, at * keyBytes);
      if (value !== null) values.set(value, at * valueBytes);
    }
    const ret = gone ? bpf.deleteBatch(fd, keys, count) : bpf.updateBatch(fd, keys, values, count);
    if (unsupported(ret)) this.#batches = false;
    return bpf.count;
  }

  #one({ key, value, flags = 0 }: ElementChange): MirrorRefusal | null {
    const { bpf, fd, type } = this.#opened;
    if (value !== null) {
      // The kernel may have evicted the element from an LRU map; it is written nevertheless.
      const ret = this.#put(key, value, type.evicts && flags === Number(BPF_ELEM.BPF_EXIST) ? 0 : flags);
      if (ret === 0) return null;
      return this.#refusal("BPF_MAP_UPDATE_ELEM", ret, `updating element ${shownKey(key)} of the kernel map`);
    }
    const ret = bpf.delete(fd, key);
    if (ret === 0 || ret === -ERRNO[type.nothingThere]) return null;
    // Elements of a frozen map are deleted only when the object that they belong to ends. The kernel then deletes them
    // from its own map.
    if (ret === -ERRNO.EPERM && type.refers !== "never") return null;
    return this.#refusal("BPF_MAP_DELETE_ELEM", ret, `deleting element ${shownKey(key)} of the kernel map`);
  }

  /** Waits while the kernel returns EBUSY. */
  #put(key: Buffer, value: Buffer, flags: number): number {
    const { bpf, fd } = this.#opened;
    for (;;) {
      const ret = bpf.update(fd, key, value, flags);
      if (ret !== -ERRNO.EBUSY || this.#triesLeft-- <= 0) return ret;
      Atomics.wait(NEVER_WOKEN, 0, 0, BUSY_MS);
    }
  }

  #lacks(key: Buffer, { lacking }: Lacking): MirrorRefusal {
    const detail = `updating element ${shownKey(key)} of the kernel map: ${lacking}`;
    return { mapId: this.#opened.map.id, operation: "BPF_MAP_UPDATE_ELEM", errno: "EBADF", detail };
  }

  #changing(operation: string): MirrorRefusal {
    return this.#refusal(operation, -ERRNO.EAGAIN, "reading the kernel map, which changes faster than it can be read");
  }

  #refusal(operation: string, ret: number, attempted: string): MirrorRefusal {
    return refusal(this.#opened.map.id, operation, ret, attempted);
  }
}

function isReplaced({ key }: ElementChange, next: ElementChange | undefined): boolean {
  return next !== undefined && next.value !== null && next.key.equals(key);
}
