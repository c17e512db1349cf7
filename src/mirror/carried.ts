import { BPF_MAP_TYPE } from "../abi/bpf.ts";
import { u32Buffer } from "../maps/common.ts";
import type { Bpf } from "./bpf.ts";

const SHAPE = {
  type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
  keySize: 4,
  valueSize: 8,
  maxEntries: 1,
  mapFlags: 0,
  name: "ml_carried",
  mapExtra: 0n,
  numaNode: 0,
} as const;
const KEY = u32Buffer(0);

/**
 * Up to which event the kernel maps have come, kept where they are: in a kernel map of its own, which goes when they go. So
 * the next start knows what it need not look at, of maps that it cannot read.
 */
export class Carried {
  /** Of an anonymous file. */
  readonly fd: number;
  readonly #bpf: Bpf;
  readonly #value = Buffer.alloc(SHAPE.valueSize);

  private constructor(bpf: Bpf, fd: number) {
    this.#bpf = bpf;
    this.fd = fd;
  }

  /** What an earlier start has left, or a new one; a negative errno where the kernel refuses it. */
  static open(bpf: Bpf, path: string): Carried | number {
    const found = bpf.get(path);
    if (found >= 0) return new Carried(bpf, found);
    const fd = bpf.create(SHAPE);
    if (fd < 0) return fd;
    const ret = bpf.pin(fd, path);
    if (ret === 0) return new Carried(bpf, fd);
    bpf.close(fd);
    return ret;
  }

  /** 0: not known. */
  get seq(): number {
    return this.#bpf.lookup(this.fd, KEY, this.#value) < 0 ? 0 : Number(this.#value.readBigUInt64LE(0));
  }

  reached(seq: number): void {
    this.#value.writeBigUInt64LE(BigInt(seq), 0);
    this.#bpf.update(this.fd, KEY, this.#value);
  }

  close(): void {
    this.#bpf.close(this.fd);
  }
}
