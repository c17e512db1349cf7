import type { Bpf } from "../../src/native/bpf.ts";
import type { Ledger } from "./ledger.ts";
import { u32, u64 } from "./mirror.ts";

/** Keys and values of a map of u32 and u64. */
export type Numbers = Record<number, number>;

/** What a program or a stranger does to kernel maps of u32 and u64, and sees there, by paths on bpffs. */
export class KernelSide {
  readonly #bpf: Bpf;

  constructor(bpf: Bpf) {
    this.#bpf = bpf;
  }

  /** Where the mirror has pinned a map. */
  static of({ root }: Ledger, map: number): string {
    return `${root}/by_id/${map}`;
  }

  through<Answer>(path: string, use: (fd: number) => Answer): Answer {
    const fd = this.#bpf.get(path);
    if (fd < 0) throw new Error(`opening ${path}: ${fd}`);
    try {
      return use(fd);
    } finally {
      this.#bpf.close(fd);
    }
  }

  put(path: string, elements: Numbers): void {
    this.through(path, (fd) => {
      for (const [key, value] of Object.entries(elements)) {
        const ret = this.#bpf.update(fd, u32(Number(key)), u64(value));
        if (ret < 0) throw new Error(`putting ${key} at ${path}: ${ret}`);
      }
    });
  }

  delete(path: string, ...keys: readonly number[]): void {
    this.through(path, (fd) => {
      for (const key of keys) this.#bpf.delete(fd, u32(key));
    });
  }

  elements(path: string): Numbers {
    return this.through(path, (fd) => {
      const found: Numbers = {};
      const next = Buffer.alloc(4);
      const value = Buffer.alloc(8);
      for (let key: Buffer | null = null; this.#bpf.nextKey(fd, key, next) === 0; ) {
        key = Buffer.from(next);
        if (this.#bpf.lookup(fd, key, value) === 0) found[key.readUInt32LE(0)] = Number(value.readBigUInt64LE(0));
      }
      return found;
    });
  }

  /** The kernel's id of the map that is pinned there; null: none is. */
  idAt(path: string): number | null {
    const fd = this.#bpf.get(path);
    if (fd < 0) return null;
    const info = this.#bpf.infoByFd(fd);
    this.#bpf.close(fd);
    return typeof info === "number" ? null : info.id;
  }
}
