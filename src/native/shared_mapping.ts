import type { Bpf } from "./bpf.ts";

const PAGE_BYTES = 4096;
const PROT_READ = 1;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;

export interface Access {
  readonly offset: number;
  readonly length: number;
  readonly writable: boolean;
}

/**
 * Maps a map's memory for one access and unmaps it afterwards, because a mapping would prevent later commands such as
 * BPF_MAP_FREEZE. Returns 0, or a negative errno.
 */
export function mapped(
  bpf: Bpf,
  fd: number,
  { offset, length, writable }: Access,
  use: (bytes: Buffer) => void,
): number {
  const start = Math.floor(offset / PAGE_BYTES) * PAGE_BYTES;
  const size = Math.ceil((offset + length - start) / PAGE_BYTES) * PAGE_BYTES;
  const address = bpf.mmap(size, writable ? PROT_READ_WRITE : PROT_READ, MAP_SHARED, fd, start);
  if (typeof address === "number") return address;
  use(bpf.view(address, size).subarray(offset - start, offset - start + length));
  bpf.libc("munmap", address, size);
  return 0;
}
