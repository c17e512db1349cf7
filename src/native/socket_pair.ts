import type { Bpf } from "./bpf.ts";

const AF_UNIX = 1;
const SOCK_STREAM = 1;
/** Programs that this process starts do not have the descriptors. */
const SOCK_CLOEXEC = 0o2000000;
const FD_BYTES = 4;

/** Both ends of a new connection, or a negative errno. */
export function socketPair(bpf: Bpf): readonly [one: number, other: number] | number {
  const ends = Buffer.alloc(2 * FD_BYTES);
  const ret = bpf.libc("socketpair", AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends);
  return ret < 0 ? ret : [ends.readInt32LE(0), ends.readInt32LE(FD_BYTES)];
}
