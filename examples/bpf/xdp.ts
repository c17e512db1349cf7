import { errnoName } from "../../src/abi/errno.ts";
import type { Bpf } from "../../src/native/bpf.ts";

const BPF_PROG_LOAD = 5;
const BPF_PROG_TEST_RUN = 10;
const BPF_PROG_TYPE_XDP = 6;
const ATTR_BYTES = 168;
const LOG_BYTES = 64 * 1024;

/** The least that an XDP test run takes: an Ethernet header. */
export const PACKET_BYTES_MIN = 14;

/** BPF_PROG_LOAD: the program's fd. Throws what the verifier says where the kernel refuses it. */
export function loadXdp(bpf: Bpf, code: Buffer): number {
  const license = Buffer.from("GPL\0");
  const log = Buffer.alloc(LOG_BYTES);
  const attr = Buffer.alloc(ATTR_BYTES);
  attr.writeUInt32LE(BPF_PROG_TYPE_XDP, 0);
  attr.writeUInt32LE(code.length / 8, 4);
  attr.writeBigUInt64LE(bpf.address(code), 8);
  attr.writeBigUInt64LE(bpf.address(license), 16);
  attr.writeUInt32LE(1, 24);
  attr.writeUInt32LE(LOG_BYTES, 28);
  attr.writeBigUInt64LE(bpf.address(log), 32);
  const fd = bpf.bpf(BPF_PROG_LOAD, attr);
  if (fd >= 0) return fd;
  throw new Error(`loading the program: ${errnoName(-fd)}\n${log.toString("latin1").replace(/\0+$/, "")}`);
}

/** BPF_PROG_TEST_RUN, so many times over: what the last run returned. Throws where the kernel refuses. */
export function runXdp(bpf: Bpf, fd: number, packet: Buffer, times = 1): number {
  const attr = Buffer.alloc(ATTR_BYTES);
  attr.writeInt32LE(fd, 0);
  attr.writeUInt32LE(packet.length, 8);
  attr.writeBigUInt64LE(bpf.address(packet), 16);
  attr.writeUInt32LE(times, 32);
  const ret = bpf.bpf(BPF_PROG_TEST_RUN, attr);
  if (ret < 0) throw new Error(`running the program: ${errnoName(-ret)}`);
  return attr.readUInt32LE(4);
}
