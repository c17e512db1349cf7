/**
 * bpf(2). Calls return a number >= 0, or a negative errno as the kernel returns it (ENOTSUPP is -524); they do not
 * throw if the kernel refuses.
 *
 * The kernel gets addresses, so the memory that it reads and writes must stay alive and in place. Attrs, the two slots
 * and the room for batches are fields of their own, allocated outside of Node's shared pool; `keepAlive` holds callers'
 * buffers during a call.
 */

import { AGAIN_CMDS, BPF_CMD, BPF_F, MAP_INFO_BYTES, OBJ_NAME_LEN } from "../abi/bpf.ts";
import { ERRNO } from "../abi/errno.ts";
import { type Koffi, Libc } from "./libc.ts";
import { type MapInfo, type MapShape, readInfo } from "./map_info.ts";

/** The size of each command's part of union bpf_attr, up to the last field that is used here. */
const ATTR_BYTES = {
  create: 72,
  element: 32,
  delete: 16,
  path: 16,
  id: 12,
  info: 16,
  freeze: 4,
  prog: 72,
  batch: 56,
  btf: 28,
  max: 168,
} as const;

/** struct bpf_prog_info up to map_ids: 52 u32 nr_map_ids, 56 u64 map_ids. */
const PROG_INFO_BYTES = 64;
/** MAX_USED_MAPS, include/linux/bpf_verifier.h. BPF_PROG_BIND_MAP goes beyond it. */
const USED_MAPS = 64;
/** The most times that BPF_OBJ_GET_INFO_BY_FD is called if the list of maps grows in between. */
const GROWING_TRIES = 4;

/** struct bpf_btf_info: 0 u64 btf, 8 u32 btf_size, 12 u32 id, 16 u64 name, 24 u32 name_len, 28 u32 kernel_btf. */
const BTF_INFO_BYTES = 32;

const NUL = Buffer.from([0]);

/**
 * Keys and values of at most this many bytes are copied to the slots that the attr points to; larger ones are passed by
 * their own address.
 */
const SLOT_BYTES = 4096;

const TRIES_MAX = 1000;

/** File descriptors and BTF types for a new map; 0: none. */
interface CreateWith {
  readonly innerMapFd: number;
  readonly btfFd: number;
  readonly btfKeyTypeId: number;
  readonly btfValueTypeId: number;
}

const ALONE: CreateWith = { innerMapFd: 0, btfFd: 0, btfKeyTypeId: 0, btfValueTypeId: 0 };

export class Bpf extends Libc {
  readonly #number: number;

  readonly #attr = Buffer.allocUnsafeSlow(ATTR_BYTES.max).fill(0);
  readonly #element = Buffer.allocUnsafeSlow(ATTR_BYTES.element).fill(0);
  readonly #batch = Buffer.allocUnsafeSlow(ATTR_BYTES.batch).fill(0);
  readonly #key = Buffer.allocUnsafeSlow(SLOT_BYTES);
  readonly #value = Buffer.allocUnsafeSlow(SLOT_BYTES);
  readonly #info = Buffer.allocUnsafeSlow(MAP_INFO_BYTES);
  #keys = Buffer.allocUnsafeSlow(SLOT_BYTES);
  #values = Buffer.allocUnsafeSlow(SLOT_BYTES);
  #count = 0;

  /** `number`: __NR_bpf of this machine. */
  constructor(koffi: Koffi, number: number) {
    super(koffi);
    this.#number = number;
    this.#element.writeBigUInt64LE(this.address(this.#key), 8);
    this.#element.writeBigUInt64LE(this.address(this.#value), 16);
  }

  /** Calls bpf(2) with the caller's attr, whose length is the size. Use `address` for pointers in it. */
  bpf(cmd: number, attr: Buffer): number {
    return this.#call(cmd, attr, attr.length);
  }

  /** Calls bpf(2) with an attr at an address; null: a NULL pointer. */
  bpfAt(cmd: number, address: bigint | null, size: number): number {
    return this.#call(cmd, address, size);
  }

  /**
   * Creates a map and returns its fd. BPF_F_RDONLY and BPF_F_WRONLY are removed from the flags, because the mirror
   * reads and writes every map.
   */
  create(shape: MapShape, { innerMapFd, btfFd, btfKeyTypeId, btfValueTypeId }: CreateWith = ALONE): number {
    const attr = this.#attr.fill(0);
    attr.writeUInt32LE(shape.type, 0);
    attr.writeUInt32LE(shape.keySize, 4);
    attr.writeUInt32LE(shape.valueSize, 8);
    attr.writeUInt32LE(shape.maxEntries, 12);
    attr.writeUInt32LE((shape.mapFlags & ~(BPF_F.BPF_F_RDONLY | BPF_F.BPF_F_WRONLY)) >>> 0, 16);
    attr.writeUInt32LE(innerMapFd, 20);
    if ((shape.mapFlags & BPF_F.BPF_F_NUMA_NODE) !== 0) attr.writeUInt32LE(shape.numaNode >>> 0, 24);
    attr.write(shape.name, 28, OBJ_NAME_LEN - 1, "latin1");
    attr.writeUInt32LE(btfFd, 48);
    attr.writeUInt32LE(btfKeyTypeId, 52);
    attr.writeUInt32LE(btfValueTypeId, 56);
    attr.writeBigUInt64LE(shape.mapExtra, 64);
    return this.#call(BPF_CMD.BPF_MAP_CREATE, attr, ATTR_BYTES.create);
  }

  /** `key` null: the map has no keys. */
  update(fd: number, key: Buffer | null, value: Buffer, flags = 0): number {
    if (key === null || key.length > SLOT_BYTES || value.length > SLOT_BYTES)
      return this.#direct(BPF_CMD.BPF_MAP_UPDATE_ELEM, fd, key, value, flags);
    this.#key.set(key);
    this.#value.set(value);
    this.#element.writeUInt32LE(fd, 0);
    this.#element.writeUInt32LE(flags, 24);
    return this.#call(BPF_CMD.BPF_MAP_UPDATE_ELEM, this.#element, ATTR_BYTES.element);
  }

  delete(fd: number, key: Buffer): number {
    if (key.length > SLOT_BYTES) return this.#direct(BPF_CMD.BPF_MAP_DELETE_ELEM, fd, key, null);
    this.#key.set(key);
    this.#element.writeUInt32LE(fd, 0);
    return this.#call(BPF_CMD.BPF_MAP_DELETE_ELEM, this.#element, ATTR_BYTES.delete);
  }

  /**
   * Writes the element to `value`; of a bloom filter, tests whether it has `value`. `key` null: the map has no keys.
   */
  lookup(fd: number, key: Buffer | null, value: Buffer): number {
    return this.#direct(BPF_CMD.BPF_MAP_LOOKUP_ELEM, fd, key, value);
  }

  /**
   * BPF_MAP_LOOKUP_AND_DELETE_ELEM: writes the deleted element to `value`. `key` null: the map has no keys, and this is
   * a pop.
   */
  take(fd: number, key: Buffer | null, value: Buffer): number {
    return this.#direct(BPF_CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM, fd, key, value);
  }

  /** Writes the key after `key` to `next`; `key` null: the first key. */
  nextKey(fd: number, key: Buffer | null, next: Buffer): number {
    return this.#direct(BPF_CMD.BPF_MAP_GET_NEXT_KEY, fd, key, next);
  }

  /** Makes `keys` and `values` large enough for the next batch. Their contents may be lost. */
  room(keyBytes: number, valueBytes: number): void {
    if (this.#keys.length < keyBytes) this.#keys = Buffer.allocUnsafeSlow(keyBytes);
    if (this.#values.length < valueBytes) this.#values = Buffer.allocUnsafeSlow(valueBytes);
  }

  /** The keys and values of batches, end to end. */
  get keys(): Buffer {
    return this.#keys;
  }

  get values(): Buffer {
    return this.#values;
  }

  /** The elements that the last batch has written, deleted or returned, even if it failed in the middle. */
  get count(): number {
    return this.#count;
  }

  updateBatch(fd: number, keys: Buffer, values: Buffer, count: number): number {
    return this.#many(BPF_CMD.BPF_MAP_UPDATE_BATCH, fd, keys, values, count);
  }

  deleteBatch(fd: number, keys: Buffer, count: number): number {
    return this.#many(BPF_CMD.BPF_MAP_DELETE_BATCH, fd, keys, null, count);
  }

  /**
   * Reads elements after `position` (null: from the start) into `keys` and `values`, and the next position into `next`.
   * -ENOENT: the end of the map was reached.
   */
  lookupBatch(fd: number, position: Buffer | null, next: Buffer, keys: Buffer, values: Buffer, count: number): number {
    this.#batch.writeBigUInt64LE(position === null ? 0n : this.address(position), 0);
    this.#batch.writeBigUInt64LE(this.address(next), 8);
    const ret = this.#many(BPF_CMD.BPF_MAP_LOOKUP_BATCH, fd, keys, values, count);
    this.#batch.fill(0, 0, 16);
    this.keepAlive([position, next]);
    return ret;
  }

  freeze(fd: number): number {
    const attr = this.#attr.fill(0);
    attr.writeUInt32LE(fd, 0);
    return this.#call(BPF_CMD.BPF_MAP_FREEZE, attr, ATTR_BYTES.freeze);
  }

  pin(fd: number, path: string): number {
    return this.#path(BPF_CMD.BPF_OBJ_PIN, path, fd);
  }

  /** Opens the object that is pinned at `path`, which may be a map, a program or a link. Returns its fd. */
  get(path: string): number {
    return this.#path(BPF_CMD.BPF_OBJ_GET, path, 0);
  }

  /**
   * Opens the map that is pinned at `path`, for reading only: mode 0400 of the pin is enough. Returns its fd; -EINVAL
   * if the pin is a program's or a link's.
   */
  getReadOnly(path: Buffer): number {
    const bytes = Buffer.concat([path, NUL]);
    this.keepAlive([bytes]);
    const attr = this.#attr.fill(0);
    attr.writeBigUInt64LE(this.address(bytes), 0);
    attr.writeUInt32LE(BPF_F.BPF_F_RDONLY, 12);
    return this.#call(BPF_CMD.BPF_OBJ_GET, attr, ATTR_BYTES.path);
  }

  /** The info of a map. `fd` must be a map's, because programs have another struct. */
  infoByFd(fd: number): MapInfo | number {
    const info = this.#info.fill(0);
    const attr = this.#attr.fill(0);
    attr.writeUInt32LE(fd, 0);
    attr.writeUInt32LE(MAP_INFO_BYTES, 4);
    attr.writeBigUInt64LE(this.address(info), 8);
    const ret = this.#call(BPF_CMD.BPF_OBJ_GET_INFO_BY_FD, attr, ATTR_BYTES.info);
    return ret < 0 ? ret : readInfo(info);
  }

  mapFdById(id: number): number {
    return this.byId(BPF_CMD.BPF_MAP_GET_FD_BY_ID, id);
  }

  /** BPF_MAP_GET_FD_BY_ID, or the same command of another kind of object. `openFlags`: BPF_F_RDONLY, for maps only. */
  byId(cmd: number, id: number, openFlags = 0): number {
    const attr = this.#attr.fill(0);
    attr.writeUInt32LE(id, 0);
    attr.writeUInt32LE(openFlags, 8);
    return this.#call(cmd, attr, ATTR_BYTES.id);
  }

  /** BPF_OBJ_GET_INFO_BY_FD of an object other than a map: the first `bytes` bytes of its info. */
  objectInfo(fd: number, bytes: number): Buffer | number {
    const info = Buffer.allocUnsafeSlow(bytes).fill(0);
    const ret = this.#askInfo(fd, info);
    return ret < 0 ? ret : info;
  }

  /** The kernel's ids of the maps that a program uses. `fd` is the program's. */
  progMapIds(fd: number): readonly number[] | number {
    const info = Buffer.allocUnsafeSlow(PROG_INFO_BYTES);
    let room = USED_MAPS;
    for (let left = GROWING_TRIES; ; left--) {
      const ids = Buffer.allocUnsafeSlow(4 * room);
      info.fill(0);
      info.writeUInt32LE(room, 52);
      info.writeBigUInt64LE(this.address(ids), 56);
      const ret = this.#askInfo(fd, info, ids);
      if (ret < 0) return ret;
      const count = info.readUInt32LE(52);
      if (count <= room) return Array.from({ length: count }, (_, at) => ids.readUInt32LE(4 * at));
      if (left === 1) return -ERRNO.EAGAIN;
      room = 2 * count;
    }
  }

  /** The BTF blob with this id, as it was given to BPF_BTF_LOAD. */
  btfById(id: number): Buffer | number {
    const fd = this.byId(BPF_CMD.BPF_BTF_GET_FD_BY_ID, id);
    if (fd < 0) return fd;
    const info = Buffer.allocUnsafeSlow(BTF_INFO_BYTES).fill(0);
    let ret = this.#askInfo(fd, info);
    const blob = Buffer.allocUnsafeSlow(info.readUInt32LE(8));
    info.writeBigUInt64LE(this.address(blob), 0);
    if (ret >= 0) ret = this.#askInfo(fd, info, blob);
    this.close(fd);
    return ret < 0 ? ret : blob;
  }

  /** `pointed`: a buffer that the info points to, kept alive during the call. */
  #askInfo(fd: number, info: Buffer, pointed: Buffer | null = null): number {
    const attr = this.#attr.fill(0);
    attr.writeUInt32LE(fd, 0);
    attr.writeUInt32LE(info.length, 4);
    attr.writeBigUInt64LE(this.address(info), 8);
    this.keepAlive([info, pointed]);
    return this.#call(BPF_CMD.BPF_OBJ_GET_INFO_BY_FD, attr, ATTR_BYTES.info);
  }

  /** BPF_PROG_LOAD of instructions without BTF, with the GPL as license. */
  loadProgram(progType: number, expectedAttachType: number, insns: Buffer): number {
    const license = Buffer.from("GPL\0");
    const attr = this.#attr.fill(0);
    attr.writeUInt32LE(progType, 0);
    attr.writeUInt32LE(insns.length / 8, 4);
    attr.writeBigUInt64LE(this.address(insns), 8);
    attr.writeBigUInt64LE(this.address(license), 16);
    attr.writeUInt32LE(expectedAttachType, 68);
    this.keepAlive([insns, license]);
    return this.#call(BPF_CMD.BPF_PROG_LOAD, attr, ATTR_BYTES.prog);
  }

  loadBtf(blob: Buffer): number {
    const attr = this.#attr.fill(0);
    attr.writeBigUInt64LE(this.address(blob), 0);
    attr.writeUInt32LE(blob.length, 16);
    this.keepAlive([blob]);
    return this.#call(BPF_CMD.BPF_BTF_LOAD, attr, ATTR_BYTES.btf);
  }

  /** The smallest id of a map above `id`. */
  mapGetNextId(id: number): number {
    return this.nextId(BPF_CMD.BPF_MAP_GET_NEXT_ID, id);
  }

  /** BPF_MAP_GET_NEXT_ID, or the same command of another kind of object. */
  nextId(cmd: number, id: number): number {
    const attr = this.#attr.fill(0);
    attr.writeUInt32LE(id, 0);
    const ret = this.#call(cmd, attr, ATTR_BYTES.id);
    return ret < 0 ? ret : attr.readUInt32LE(4);
  }

  #call(cmd: number, attr: Buffer | bigint | null, size: number): number {
    for (let left = TRIES_MAX; ; left--) {
      const ret = this.syscall4(this.#number, cmd, attr, size);
      if (ret >= 0) return ret;
      const errno = this.errno();
      if (errno !== ERRNO.EAGAIN || !AGAIN_CMDS.has(cmd) || left === 1) return -errno;
    }
  }

  /** An element command with the addresses of the caller's own buffers. */
  #direct(cmd: number, fd: number, key: Buffer | null, value: Buffer | null, flags = 0): number {
    this.keepAlive([key, value]);
    const attr = this.#attr.fill(0, 0, ATTR_BYTES.element);
    attr.writeUInt32LE(fd, 0);
    if (key !== null) attr.writeBigUInt64LE(this.address(key), 8);
    if (value !== null) attr.writeBigUInt64LE(this.address(value), 16);
    attr.writeUInt32LE(flags, 24);
    return this.#call(cmd, attr, value === null ? ATTR_BYTES.delete : ATTR_BYTES.element);
  }

  /**
   * Runs a batch and sets `count`. The kernel writes the attr's count once its first checks have passed; before that,
   * it still has the value that went in. A batch that fails later never reaches the full count, so after an error the
   * full count means that nothing was done. -ENOENT is an exception: it comes only after the checks, and with the real
   * count.
   */
  #many(cmd: number, fd: number, keys: Buffer, values: Buffer | null, count: number): number {
    this.keepAlive([keys, values]);
    this.#batch.writeBigUInt64LE(this.address(keys), 16);
    this.#batch.writeBigUInt64LE(values === null ? 0n : this.address(values), 24);
    this.#batch.writeUInt32LE(count, 32);
    this.#batch.writeUInt32LE(fd, 36);
    const ret = this.#call(cmd, this.#batch, ATTR_BYTES.batch);
    this.#count = this.#batch.readUInt32LE(32);
    if (ret < 0 && ret !== -ERRNO.ENOENT && this.#count === count) this.#count = 0;
    return ret;
  }

  #path(cmd: number, path: string, fd: number): number {
    const bytes = Buffer.from(`${path}\0`);
    this.keepAlive([bytes]);
    const attr = this.#attr.fill(0);
    attr.writeBigUInt64LE(this.address(bytes), 0);
    attr.writeUInt32LE(fd, 8);
    return this.#call(cmd, attr, ATTR_BYTES.path);
  }
}
