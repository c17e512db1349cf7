import type { Bpf } from "./bpf.ts";

const AF_UNIX = 1;
const FD_BYTES = 4;

/** Both ends of a new connection, or a negative errno. `type`: SOCK_STREAM and so on, with flags such as SOCK_CLOEXEC. */
export function socketPair(bpf: Bpf, type: number): readonly [one: number, other: number] | number {
  const ends = Buffer.alloc(2 * FD_BYTES);
  const ret = bpf.libc("socketpair", AF_UNIX, type, 0, ends);
  return ret < 0 ? ret : [ends.readInt32LE(0), ends.readInt32LE(FD_BYTES)];
}
