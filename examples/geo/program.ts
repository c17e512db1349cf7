import { type Bpf, openBpf } from "../../src/mirror/bpf.ts";

const BPF_PROG_LOAD = 5;
const BPF_PROG_TEST_RUN = 10;
const BPF_PROG_TYPE_XDP = 6;
const BPF_PSEUDO_MAP_FD = 1;
const BPF_FUNC_MAP_LOOKUP_ELEM = 1;
const ATTR_BYTES = 168;
const LOG_BYTES = 64 * 1024;
/** The least that an XDP test run takes: an Ethernet header. */
const PACKET_BYTES = 14;

/** One instruction: opcode, registers, jump or memory offset, immediate. */
function instruction(code: number, dst: number, src: number, off: number, imm: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt8(code, 0);
  bytes.writeUInt8((src << 4) | dst, 1);
  bytes.writeInt16LE(off, 2);
  bytes.writeInt32LE(imm, 4);
  return bytes;
}

/**
 * An XDP program that looks the first four bytes of a packet up as an address, and returns the value's two letters, or 0:
 *
 *     struct { __u32 prefixlen; __u32 address; } key = { 32, *(__u32 *)data };
 *     __u16 *country = bpf_map_lookup_elem(&trie, &key);
 *     return country ? *country : 0;
 */
function instructions(mapFd: number): Buffer {
  return Buffer.concat([
    instruction(0x61, 2, 1, 0, 0), //            r2 = ctx->data
    instruction(0x61, 3, 1, 4, 0), //            r3 = ctx->data_end
    instruction(0xbf, 4, 2, 0, 0), //            r4 = r2
    instruction(0x07, 4, 0, 0, 4), //            r4 += 4
    instruction(0x2d, 4, 3, 11, 0), //           if r4 > r3 goto none
    instruction(0x61, 4, 2, 0, 0), //            r4 = *(u32 *)(r2 + 0)
    instruction(0x63, 10, 4, -4, 0), //          key.address = r4
    instruction(0x62, 10, 0, -8, 32), //         key.prefixlen = 32
    instruction(0x18, 1, BPF_PSEUDO_MAP_FD, 0, mapFd), // r1 = trie
    instruction(0x00, 0, 0, 0, 0), //            (its second half)
    instruction(0xbf, 2, 10, 0, 0), //           r2 = r10
    instruction(0x07, 2, 0, 0, -8), //           r2 += -8
    instruction(0x85, 0, 0, 0, BPF_FUNC_MAP_LOOKUP_ELEM),
    instruction(0x15, 0, 0, 2, 0), //            if r0 == 0 goto none
    instruction(0x69, 0, 0, 0, 0), //            r0 = *(u16 *)(r0 + 0)
    instruction(0x95, 0, 0, 0, 0), //            return r0
    instruction(0xb7, 0, 0, 0, 0), //      none: r0 = 0
    instruction(0x95, 0, 0, 0, 0), //            return r0
  ]);
}

/** A program in the kernel that answers from a pinned trie. Throws where the kernel refuses. */
export class GeoProgram {
  readonly #bpf: Bpf;
  readonly #mapFd: number;
  readonly #fd: number;
  readonly #packet = Buffer.alloc(PACKET_BYTES);
  readonly #attr = Buffer.alloc(ATTR_BYTES);

  constructor(pinned: string) {
    const bpf = openBpf();
    if ("off" in bpf) throw new Error(`loading the program: ${bpf.off}`);
    this.#bpf = bpf;
    this.#mapFd = bpf.get(pinned);
    if (this.#mapFd < 0) throw new Error(`opening ${pinned}: error ${-this.#mapFd}`);
    this.#fd = this.#load();
  }

  /** The country's two letters by the kernel's map, null: no prefix covers the address. */
  countryOf(address: number): string | null {
    this.#packet.writeUInt32BE(address, 0);
    const attr = this.#attr.fill(0);
    attr.writeInt32LE(this.#fd, 0);
    attr.writeUInt32LE(PACKET_BYTES, 8);
    attr.writeBigUInt64LE(this.#bpf.address(this.#packet), 16);
    const ret = this.#bpf.bpf(BPF_PROG_TEST_RUN, attr);
    if (ret < 0) throw new Error(`running the program: error ${-ret}`);
    const letters = attr.readUInt32LE(4);
    return letters === 0 ? null : String.fromCharCode(letters & 255, letters >> 8);
  }

  close(): void {
    this.#bpf.close(this.#fd);
    this.#bpf.close(this.#mapFd);
  }

  #load(): number {
    const code = instructions(this.#mapFd);
    const license = Buffer.from("GPL\0");
    const log = Buffer.alloc(LOG_BYTES);
    const attr = Buffer.alloc(ATTR_BYTES);
    attr.writeUInt32LE(BPF_PROG_TYPE_XDP, 0);
    attr.writeUInt32LE(code.length / 8, 4);
    attr.writeBigUInt64LE(this.#bpf.address(code), 8);
    attr.writeBigUInt64LE(this.#bpf.address(license), 16);
    attr.writeUInt32LE(1, 24);
    attr.writeUInt32LE(LOG_BYTES, 28);
    attr.writeBigUInt64LE(this.#bpf.address(log), 32);
    const fd = this.#bpf.bpf(BPF_PROG_LOAD, attr);
    if (fd < 0) throw new Error(`loading the program: error ${-fd}\n${log.toString("latin1").replace(/\0+$/, "")}`);
    return fd;
  }
}
