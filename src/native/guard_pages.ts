import type { Bpf } from "./bpf.ts";

const PAGE_BYTES = 4096;
const PAGES_LEAST = 4;
const PROT_NONE = 0;
const PROT_READ_WRITE = 3;
const MAP_PRIVATE_ANONYMOUS = 0x22;

export interface Room {
  readonly address: bigint;
  readonly bytes: Buffer;
}

/**
 * Memory for kernel calls that ends exactly at its length: an access to the next byte faults. There is one area for
 * each role; the next command reuses it.
 */
export class Guarded {
  readonly #bpf: Bpf;
  readonly #areas = new Map<string, { start: bigint; bytes: Buffer }>();

  constructor(bpf: Bpf) {
    this.#bpf = bpf;
  }

  /** `length` zero bytes, and their address. */
  room(role: string, length: number): Room {
    const { start, bytes } = this.#area(role, length);
    const at = bytes.length - length;
    return { address: start + BigInt(at), bytes: bytes.subarray(at).fill(0) };
  }

  put(role: string, data: Buffer): bigint {
    const { address, bytes } = this.room(role, data.length);
    data.copy(bytes);
    return address;
  }

  #area(role: string, length: number): { start: bigint; bytes: Buffer } {
    const known = this.#areas.get(role);
    if (known !== undefined && known.bytes.length >= length) return known;
    if (known !== undefined) this.#bpf.libc("munmap", known.start, known.bytes.length + PAGE_BYTES);
    const size = Math.max(Math.ceil(length / PAGE_BYTES), PAGES_LEAST) * PAGE_BYTES;
    const start = this.#bpf.mmap(size + PAGE_BYTES, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0);
    if (typeof start === "number") throw new Error(`mapping ${size} bytes: errno ${-start}`);
    this.#bpf.libc("mprotect", start + BigInt(size), PAGE_BYTES, PROT_NONE);
    const area = { start, bytes: this.#bpf.view(start, size) };
    this.#areas.set(role, area);
    return area;
  }
}
