import { BPF_CMD, BPF_F } from "../abi/bpf.ts";
import { ERRNO } from "../abi/errno.ts";
import { isOfMaps } from "../maps/facts.ts";
import type { Bpf } from "../native/bpf.ts";
import type { MapInfo } from "../native/map_info.ts";
import type { Pace } from "./pace.ts";

const ID_BYTES = 4;
/** The size of a position in BPF_MAP_LOOKUP_BATCH: a bucket's number, or an array's key. */
const POSITION_BYTES = 4;
/** Elements of a batch; it is doubled if a hash has a larger bucket. */
const BATCH_ENTRIES = 2048;
/** Keys that are read while the map is open. */
const WALKED_KEYS = 256;

/** Reads the inner maps of a map of maps, in pieces. The map is open only during a piece. */
export class OuterMap {
  readonly #bpf: Bpf;
  readonly #pace: Pace;
  readonly #info: MapInfo;

  constructor(bpf: Bpf, pace: Pace, info: MapInfo) {
    this.#bpf = bpf;
    this.#pace = pace;
    this.#info = info;
  }

  /**
   * The kernel map with this id if it is a map of maps; null if it is another map; a negative errno if it cannot be
   * read.
   */
  static find(bpf: Bpf, pace: Pace, id: number): OuterMap | null | number {
    const fd = openForReading(bpf, id);
    if (fd < 0) return fd;
    const info = bpf.infoByFd(fd);
    bpf.close(fd);
    if (typeof info === "number") return info;
    return isOfMaps(info.type) ? new OuterMap(bpf, pace, info) : null;
  }

  /** The kernel's ids of the inner maps, or a negative errno. */
  *innerIds(): Generator<void, ReadonlySet<number> | number> {
    const ids = yield* this.#batches();
    return ids === null ? yield* this.#walk() : ids;
  }

  /** null: the kernel has no batches for this map, or stops at an array's empty slots, as older kernels do (EINTR). */
  *#batches(): Generator<void, ReadonlySet<number> | number | null> {
    const { id, keySize, maxEntries } = this.#info;
    const bpf = this.#bpf;
    const ids = new Set<number>();
    let position: Buffer | null = null;
    let entries = Math.min(BATCH_ENTRIES, maxEntries);
    const most = 4 * maxEntries;
    for (let seen = 0; seen <= most; seen += bpf.count) {
      yield* this.#pace.step();
      const fd = openForReading(bpf, id);
      if (fd < 0) return fd;
      bpf.room(entries * keySize, entries * ID_BYTES);
      const next: Buffer = Buffer.allocUnsafeSlow(POSITION_BYTES);
      const ret = bpf.lookupBatch(fd, position, next, bpf.keys, bpf.values, entries);
      bpf.close(fd);
      // A bucket has more elements than the buffers have room for. The position has not moved.
      if (ret === -ERRNO.ENOSPC && entries < most) {
        entries = Math.min(2 * entries, most);
        continue;
      }
      if (ret < 0 && ret !== -ERRNO.ENOENT) return null;
      for (let at = 0; at < bpf.count; at++) ids.add(bpf.values.readUInt32LE(at * ID_BYTES));
      if (ret === -ERRNO.ENOENT) return ids;
      position = next;
    }
    return -ERRNO.EAGAIN;
  }

  /** Reads with BPF_MAP_GET_NEXT_KEY. If the current key is deleted, the kernel starts again at the first. */
  *#walk(): Generator<void, ReadonlySet<number> | number> {
    const { id, keySize, maxEntries } = this.#info;
    const bpf = this.#bpf;
    const ids = new Set<number>();
    const value = Buffer.allocUnsafeSlow(ID_BYTES);
    let key: Buffer | null = null;
    for (let seen = 0; seen <= 4 * maxEntries; seen += WALKED_KEYS) {
      yield* this.#pace.step();
      const fd = openForReading(bpf, id);
      if (fd < 0) return fd;
      let ret = 0;
      for (let left = WALKED_KEYS; left > 0 && ret === 0; left--) {
        const next: Buffer = Buffer.allocUnsafeSlow(keySize);
        ret = bpf.nextKey(fd, key, next);
        key = next;
        if (ret === 0 && bpf.lookup(fd, next, value) === 0) ids.add(value.readUInt32LE(0));
      }
      bpf.close(fd);
      if (ret === -ERRNO.ENOENT) return ids;
      if (ret < 0) return ret;
    }
    return -ERRNO.EAGAIN;
  }
}

function openForReading(bpf: Bpf, id: number): number {
  return bpf.byId(BPF_CMD.BPF_MAP_GET_FD_BY_ID, id, BPF_F.BPF_F_RDONLY);
}
