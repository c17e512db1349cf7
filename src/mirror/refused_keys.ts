import { hash } from "node:crypto";
import { BPF_F, BPF_MAP_TYPE } from "../abi/bpf.ts";
import { ERRNO } from "../abi/errno.ts";
import type { Bpf } from "../native/bpf.ts";
import type { MapInfo, MapShape } from "../native/map_info.ts";
import { isMapFd } from "./fdinfo.ts";

const DIGEST_BYTES = 28;

const SHAPE: MapShape = {
  type: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH,
  keySize: 4 + DIGEST_BYTES,
  valueSize: 4,
  maxEntries: 65_536,
  mapFlags: BPF_F.BPF_F_NO_PREALLOC,
  name: "ml_refused",
  mapExtra: 0n,
  numaNode: 0,
};
const NOTHING = Buffer.alloc(SHAPE.valueSize);

/**
 * The elements whose write the kernel has refused, in a kernel map beside the progress map. The next start writes only
 * these of their maps, because all other changes were carried. A key is the map's id, u32, and 28 bytes of the SHA-256
 * of the element's identity.
 */
export class RefusedKeys {
  readonly #bpf: Bpf;
  readonly #fd: number;
  readonly #keys = new Map<number, Map<string, Buffer>>();

  private constructor(bpf: Bpf, fd: number) {
    this.#bpf = bpf;
    this.#fd = fd;
    const next = Buffer.alloc(SHAPE.keySize);
    for (let key: Buffer | null = null; bpf.nextKey(fd, key, next) === 0; ) {
      key = Buffer.from(next);
      this.#of(key.readUInt32LE(0)).set(key.toString("latin1", 4), key);
    }
  }

  /** As ProgressMap.open. */
  static open(bpf: Bpf, path: string): RefusedKeys | number {
    const found = bpf.get(path);
    if (found >= 0) {
      if (isOne(bpf, found)) return new RefusedKeys(bpf, found);
      bpf.close(found);
      return -ERRNO.EEXIST;
    }
    if (found !== -ERRNO.ENOENT) return found;
    const fd = bpf.create(SHAPE);
    if (fd < 0) return fd;
    const pinned = bpf.pin(fd, path);
    if (pinned === 0) return new RefusedKeys(bpf, fd);
    bpf.close(fd);
    return pinned;
  }

  /** Whether such a map is pinned at `path`. */
  static isAt(bpf: Bpf, path: string): boolean {
    const fd = bpf.get(path);
    if (fd < 0) return false;
    const is = isOne(bpf, fd);
    bpf.close(fd);
    return is;
  }

  has(mapId: number, identity: string): boolean {
    return this.#keys.get(mapId)?.has(digestOf(identity)) === true;
  }

  /**
   * Returns false if the kernel refuses to store the key: which elements of the map were refused is then unknown to the
   * next start.
   */
  add(mapId: number, identity: string): boolean {
    const digest = digestOf(identity);
    const keys = this.#of(mapId);
    if (keys.has(digest)) return true;
    const key = Buffer.alloc(SHAPE.keySize);
    key.writeUInt32LE(mapId, 0);
    key.write(digest, 4, "latin1");
    if (this.#bpf.update(this.#fd, key, NOTHING) < 0) return false;
    keys.set(digest, key);
    return true;
  }

  delete(mapId: number, identity: string): void {
    const keys = this.#keys.get(mapId);
    const digest = digestOf(identity);
    const key = keys?.get(digest);
    if (key === undefined) return;
    this.#bpf.delete(this.#fd, key);
    keys?.delete(digest);
  }

  /** Deletes the keys of a map whose writes have all been made, or that no longer exists. */
  forget(mapId: number): void {
    for (const key of this.#keys.get(mapId)?.values() ?? []) this.#bpf.delete(this.#fd, key);
    this.#keys.delete(mapId);
  }

  get id(): number | null {
    const info = this.#bpf.infoByFd(this.#fd);
    return typeof info === "number" ? null : info.id;
  }

  close(): void {
    this.#bpf.close(this.#fd);
  }

  #of(mapId: number): Map<string, Buffer> {
    const keys = this.#keys.get(mapId) ?? new Map<string, Buffer>();
    this.#keys.set(mapId, keys);
    return keys;
  }
}

function isOne(bpf: Bpf, fd: number): boolean {
  const info = isMapFd(fd) ? bpf.infoByFd(fd) : null;
  return info !== null && typeof info !== "number" && isRefusedKeys(info);
}

export function isRefusedKeys({ type, name, keySize }: MapInfo): boolean {
  return type === SHAPE.type && name === SHAPE.name && keySize === SHAPE.keySize;
}

function digestOf(identity: string): string {
  return hash("sha256", Buffer.from(identity, "latin1"), "buffer").toString("latin1", 0, DIGEST_BYTES);
}
