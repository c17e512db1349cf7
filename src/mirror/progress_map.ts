/**
 * The place of each kernel map: the last event that was carried to it. The places are in a map in the kernel, the
 * progress map, which ends together with the kernel maps. Commands that are committed together cost one update of it:
 * it notes the last event that all kernel maps have. The hash of that event is computed beside commands; until then,
 * the progress map has the hash of an event shortly before. A kernel map that refused a change has a place of its own,
 * and `refused_keys.ts` keeps the keys of the refused elements. If the log lacks the noted event, or has a different
 * event with its seq, the kernel maps belong to another log.
 */

import { renameSync, unlinkSync } from "node:fs";
import { dirname } from "node:path";
import { BPF_F, BPF_MAP_TYPE } from "../abi/bpf.ts";
import { ERRNO } from "../abi/errno.ts";
import { u32Buffer } from "../maps/common.ts";
import type { Bpf } from "../native/bpf.ts";
import type { MapInfo, MapShape } from "../native/map_info.ts";
import { HASH_BYTES } from "../tlog/merkle.ts";
import { isMapFd } from "./fdinfo.ts";
import { temporaryFor } from "./layout.ts";
import { errnoOf } from "./refusal.ts";

/** Without preallocation, so that each unused element costs 16 bytes only. */
const SHAPE: MapShape = {
  type: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH,
  keySize: 4,
  valueSize: 48,
  maxEntries: 1024,
  mapFlags: BPF_F.BPF_F_NO_PREALLOC,
  name: "ml_progress",
  mapExtra: 0n,
  numaNode: 0,
};
/** Earlier releases kept a single u64, the seq. */
const OLD_SHAPE: MapShape = {
  ...SHAPE,
  type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
  valueSize: 8,
  maxEntries: 1,
  mapFlags: 0,
  name: "ml_carried",
};

/** The key of the element for all maps without an element of their own. Map ids begin at 1. */
const ALL = 0;
const HASH_AT = 8;
const NO_HASH = Buffer.alloc(HASH_BYTES);
const FLAGS_AT = 40;
const BEFORE_AT = 44;
const FLAG = { hash: 1, unknown: 2, old: 4 } as const;
const TWO_32 = 2 ** 32;

/** An event, with the SHA-256 of its canonical bytes. */
export interface Hashed {
  readonly seq: number;
  readonly hash: Buffer;
}

/**
 * The event that kernel maps have reached. `hashed`: that event, or one shortly before it, with its hash; null if no
 * hash is known.
 */
export interface Reached {
  readonly seq: number;
  readonly hashed: Hashed | null;
}

/**
 * The progress of each kernel map: the last event that was carried to it. It is kept in a kernel map of its own, which
 * goes when the kernel maps go. Its key is a map's id, or 0 for all maps without an element of their own; its value:
 *
 *      0 u64 seq, the last event that was carried
 *      8 the hash of an event, 32 bytes
 *     40 u32 flags: 1 the hash is set, 2 the seq is unknown, 4 the seq is of an earlier release, which kept none for single maps
 *     44 u32 how many events the hashed event is before seq
 *
 * The seq is written before a batch is answered, with one update of element 0. Hashing takes longer for larger events,
 * so it is done beside commands; until then the hash is that of an earlier event. A map gets an element of its own only
 * if it refuses a change, until it has caught up:
 *
 *     { 0: 41 }            all maps have reached event 41
 *     { 0: 41, 7: 41 }     keep(7, 41): map 7 refused the change of event 42
 *     { 0: 42, 7: 41 }     reached(42)
 *     { 0: 42 }            caughtUp(7)
 *
 * An update is one bpf(2) command, which a kill cannot interrupt: the next process finds the value before it or after
 * it. This process is the only writer, because it holds the directory's lock, so it knows the elements without reading
 * them.
 */
export class ProgressMap {
  /** `new`: no progress is known. `old`: an earlier release has left its seq, but none for single maps. */
  readonly found: "new" | "known" | "old";
  readonly #bpf: Bpf;
  readonly #path: string;
  #fd: number;
  #id: number;
  #maxEntries: number;
  /** Whether the map is an earlier release's. It is replaced at the first write. */
  #isOldMap: boolean;
  #all: Reached | null = null;
  /** Whether `#all` comes from an earlier release. */
  #isOld = false;
  readonly #exceptions = new Map<number, number | null>();
  /** Exceptions that the kernel has refused to store. No progress is recorded before it has stored them. */
  readonly #unsaved = new Set<number>();
  readonly #key = Buffer.alloc(SHAPE.keySize);
  readonly #value = Buffer.alloc(SHAPE.valueSize);

  private constructor(bpf: Bpf, path: string, fd: number, info: MapInfo) {
    this.#bpf = bpf;
    this.#path = path;
    this.#fd = fd;
    this.#id = info.id;
    this.#maxEntries = info.maxEntries;
    this.#isOldMap = isShape(info, OLD_SHAPE);
    if (this.#isOldMap) this.#readOld();
    else this.#read();
    this.found = this.#all === null ? "new" : this.#isOld ? "old" : "known";
  }

  /**
   * Opens the map that an earlier start has left at `path`, or makes one. Returns a negative errno if the kernel
   * refuses; -EEXIST: something else is pinned there, and stays. A new map is made beside the maps' own pins, whose
   * directory must exist.
   */
  static open(bpf: Bpf, path: string): ProgressMap | number {
    const found = bpf.get(path);
    if (found === -ERRNO.ENOENT) return ProgressMap.#make(bpf, path);
    if (found < 0) return found;
    const info = isMapFd(found) ? bpf.infoByFd(found) : -ERRNO.EEXIST;
    if (typeof info !== "number" && (isShape(info, SHAPE) || isShape(info, OLD_SHAPE)))
      return new ProgressMap(bpf, path, found, info);
    bpf.close(found);
    return typeof info === "number" ? info : -ERRNO.EEXIST;
  }

  /** Whether a progress map is pinned at `path`. */
  static isAt(bpf: Bpf, path: string): boolean {
    const fd = bpf.get(path);
    if (fd < 0) return false;
    const info = isMapFd(fd) ? bpf.infoByFd(fd) : null;
    bpf.close(fd);
    return info !== null && typeof info !== "number" && (isShape(info, SHAPE) || isShape(info, OLD_SHAPE));
  }

  static #make(bpf: Bpf, path: string): ProgressMap | number {
    const fd = bpf.create(SHAPE);
    if (fd < 0) return fd;
    const pinned = bpf.pin(fd, path);
    const info = pinned < 0 ? pinned : bpf.infoByFd(fd);
    if (typeof info !== "number") return new ProgressMap(bpf, path, fd, info);
    bpf.close(fd);
    return info;
  }

  /** Changes if the map is replaced to get more room. */
  get fd(): number {
    return this.#fd;
  }

  /** The kernel's id of this map; changes as `fd` does. */
  get id(): number {
    return this.#id;
  }

  /** null: unknown. */
  all(): Reached | null {
    return this.#all;
  }

  /** The last event that was carried to a map; null: unknown. */
  place(mapId: number): number | null {
    const own = this.#exceptions.get(mapId);
    if (own !== undefined) return own;
    return this.#isOld ? null : (this.#all?.seq ?? null);
  }

  /** Maps that have not come as far as the others, with their last events; null: unknown. */
  exceptions(): ReadonlyMap<number, number | null> {
    return this.#exceptions;
  }

  /**
   * Records that all maps but the exceptions have reached an event. Stores exceptions first that the kernel has refused
   * so far. If it refuses one again, records nothing and returns its errno.
   */
  reached(seq: number): number {
    return this.#saveExceptions() || this.#reach({ seq, hashed: this.#all?.hashed ?? null });
  }

  /** Records the hash of the event that all maps but the exceptions have reached. Keeps the Buffer without a copy. */
  identify(hash: Buffer): number {
    if (this.#all === null) return 0;
    const { seq } = this.#all;
    return this.#reach({ seq, hashed: { seq, hash } });
  }

  #reach(all: Reached): number {
    const ret = this.#write(ALL, all.seq, all.hashed, 0);
    if (ret !== 0) return ret;
    this.#all = all;
    this.#isOld = false;
    return 0;
  }

  /** Records that a map stays at this event while others go on. */
  keep(mapId: number, seq: number): number {
    return this.#except(mapId, seq);
  }

  /** Records that the progress of a map is unknown. */
  unknown(mapId: number): number {
    return this.#except(mapId, null);
  }

  /** Records that a map has come as far as the others, or no longer exists. */
  caughtUp(mapId: number): number {
    if (!this.#exceptions.has(mapId)) return 0;
    const ret = this.#isOldMap ? 0 : this.#bpf.delete(this.#fd, u32Buffer(mapId));
    if (ret < 0 && ret !== -ERRNO.ENOENT) return ret;
    this.#exceptions.delete(mapId);
    this.#unsaved.delete(mapId);
    return 0;
  }

  close(): void {
    this.#bpf.close(this.#fd);
  }

  #except(mapId: number, seq: number | null): number {
    if (this.#exceptions.get(mapId) === seq && !this.#unsaved.has(mapId)) return 0;
    this.#exceptions.set(mapId, seq);
    this.#unsaved.add(mapId);
    return this.#saveExceptions();
  }

  #saveExceptions(): number {
    for (const mapId of this.#unsaved) {
      const ret = this.#writeException(mapId);
      if (ret !== 0) return ret;
      this.#unsaved.delete(mapId);
    }
    return 0;
  }

  #writeException(mapId: number): number {
    const seq = this.#exceptions.get(mapId) ?? null;
    return this.#write(mapId, seq ?? 0, null, seq === null ? FLAG.unknown : 0);
  }

  #write(key: number, seq: number, hashed: Hashed | null, flags: number): number {
    const unready = this.#isOldMap ? this.#replace(SHAPE.maxEntries) : 0;
    if (unready !== 0) return unready;
    const ret = this.#put(this.#fd, key, seq, hashed, flags);
    if (ret !== -ERRNO.E2BIG) return ret;
    return this.#replace(2 * this.#maxEntries) || this.#put(this.#fd, key, seq, hashed, flags);
  }

  #put(fd: number, key: number, seq: number, hashed: Hashed | null, flags: number): number {
    const isNear = hashed !== null && seq - hashed.seq < TWO_32;
    this.#key.writeUInt32LE(key, 0);
    const value = this.#value;
    value.writeUInt32LE(seq % TWO_32, 0);
    value.writeUInt32LE(Math.floor(seq / TWO_32), 4);
    value.set(isNear ? hashed.hash : NO_HASH, HASH_AT);
    value.writeUInt32LE(isNear ? flags | FLAG.hash : flags, FLAGS_AT);
    value.writeUInt32LE(isNear ? seq - hashed.seq : 0, BEFORE_AT);
    return this.#bpf.update(fd, this.#key, value);
  }

  /** Replaces the map atomically by one with the same elements and room for more. */
  #replace(maxEntries: number): number {
    const fd = this.#bpf.create({ ...SHAPE, maxEntries });
    if (fd < 0) return fd;
    const info = this.#bpf.infoByFd(fd);
    const ret = typeof info === "number" ? info : this.#fill(fd) || this.#pinOver(fd);
    if (typeof info === "number" || ret !== 0) {
      this.#bpf.close(fd);
      return ret;
    }
    this.#bpf.close(this.#fd);
    this.#fd = fd;
    this.#id = info.id;
    this.#maxEntries = maxEntries;
    this.#isOldMap = false;
    return 0;
  }

  #fill(fd: number): number {
    if (this.#all !== null) {
      const { seq, hashed } = this.#all;
      const ret = this.#put(fd, ALL, seq, hashed, this.#isOld ? FLAG.old : 0);
      if (ret < 0) return ret;
    }
    for (const [mapId, seq] of this.#exceptions) {
      if (this.#unsaved.has(mapId)) continue;
      const ret = this.#put(fd, mapId, seq ?? 0, null, seq === null ? FLAG.unknown : 0);
      if (ret < 0) return ret;
    }
    return 0;
  }

  #pinOver(fd: number): number {
    const temporary = temporaryFor(dirname(this.#path), "carried");
    errnoOf(() => unlinkSync(temporary));
    const ret = this.#bpf.pin(fd, temporary) || errnoOf(() => renameSync(temporary, this.#path));
    if (ret !== 0) errnoOf(() => unlinkSync(temporary));
    return ret;
  }

  #read(): void {
    const key = Buffer.alloc(SHAPE.keySize);
    for (let from: Buffer | null = null; this.#bpf.nextKey(this.#fd, from, key) === 0; from = Buffer.from(key)) {
      const value = Buffer.alloc(SHAPE.valueSize);
      if (this.#bpf.lookup(this.#fd, key, value) !== 0) continue;
      const mapId = key.readUInt32LE(0);
      const seq = Number(value.readBigUInt64LE(0));
      const flags = value.readUInt32LE(FLAGS_AT);
      if (mapId !== ALL) {
        this.#exceptions.set(mapId, (flags & FLAG.unknown) === 0 ? seq : null);
        continue;
      }
      const hash = value.subarray(HASH_AT, HASH_AT + HASH_BYTES);
      const hashed = { seq: seq - value.readUInt32LE(BEFORE_AT), hash };
      this.#all = { seq, hashed: (flags & FLAG.hash) === 0 ? null : hashed };
      this.#isOld = (flags & FLAG.old) !== 0;
    }
  }

  /** An earlier release wrote 0 for an unknown seq. */
  #readOld(): void {
    const value = Buffer.alloc(OLD_SHAPE.valueSize);
    if (this.#bpf.lookup(this.#fd, u32Buffer(0), value) !== 0) return;
    const seq = Number(value.readBigUInt64LE(0));
    if (seq === 0) return;
    this.#all = { seq, hashed: null };
    this.#isOld = true;
  }
}

export function isProgressMap(info: MapInfo): boolean {
  return isShape(info, SHAPE) || isShape(info, OLD_SHAPE);
}

/** max_entries is not compared, because it grows. */
function isShape(info: MapInfo, shape: MapShape): boolean {
  return (
    info.type === shape.type &&
    info.keySize === shape.keySize &&
    info.valueSize === shape.valueSize &&
    info.mapFlags === shape.mapFlags &&
    info.name === shape.name
  );
}
