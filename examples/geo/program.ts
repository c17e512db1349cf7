import { errnoName } from "../../src/abi/errno.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import {
  add,
  assemble,
  exit,
  ifAbove,
  ifEqual,
  label,
  lookup,
  move,
  r0,
  r1,
  r2,
  r3,
  r4,
  r10,
  read,
  set,
  write,
  writeNumber,
  XDP_MD,
} from "../bpf/assembler.ts";
import { loadXdp, PACKET_BYTES_MIN, runXdp } from "../bpf/xdp.ts";

/**
 * An XDP program that looks the first four bytes of a packet up as an address, and returns the value's two letters, or 0:
 *
 *     struct { __u32 prefixlen; __u32 address; } key = { 32, *(__u32 *)data };
 *     __u16 *country = bpf_map_lookup_elem(&trie, &key);
 *     return country ? *country : 0;
 */
function instructions(trieFd: number): Buffer {
  return assemble([
    read(r2, r1, XDP_MD.data, 4),
    read(r3, r1, XDP_MD.data_end, 4),
    move(r4, r2),
    add(r4, 4),
    ifAbove(r4, r3, "none"),
    read(r4, r2, 0, 4),
    write(r10, -4, r4, 4), //         key.address
    writeNumber(r10, -8, 32, 4), //   key.prefixlen
    ...lookup(trieFd, -8),
    ifEqual(r0, 0, "none"),
    read(r0, r0, 0, 2),
    exit(),
    label("none"),
    set(r0, 0),
    exit(),
  ]);
}

/** A program in the kernel that answers from a pinned trie. Throws where the kernel refuses. */
export class GeoProgram {
  readonly #bpf: Bpf;
  readonly #mapFd: number;
  readonly #fd: number;
  readonly #packet = Buffer.alloc(PACKET_BYTES_MIN);

  constructor(pinned: string) {
    const bpf = openBpf();
    if ("off" in bpf) throw new Error(`loading the program: ${bpf.off}`);
    this.#bpf = bpf;
    this.#mapFd = bpf.get(pinned);
    if (this.#mapFd < 0) throw new Error(`opening ${pinned}: ${errnoName(-this.#mapFd)}`);
    this.#fd = loadXdp(bpf, instructions(this.#mapFd));
  }

  /** The country's two letters by the kernel's map, null: no prefix covers the address. */
  countryOf(address: number): string | null {
    this.#packet.writeUInt32BE(address, 0);
    const letters = runXdp(this.#bpf, this.#fd, this.#packet);
    return letters === 0 ? null : String.fromCharCode(letters & 255, letters >> 8);
  }

  close(): void {
    this.#bpf.close(this.#fd);
    this.#bpf.close(this.#mapFd);
  }
}
