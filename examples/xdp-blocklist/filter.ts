import { BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { errnoName } from "../../src/abi/errno.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import {
  add,
  addAtomically,
  assemble,
  exit,
  ifAbove,
  ifEqual,
  ifOther,
  label,
  lookup,
  move,
  r0,
  r1,
  r2,
  r3,
  r4,
  r7,
  r10,
  read,
  set,
  write,
  writeNumber,
  XDP_MD,
} from "../bpf/assembler.ts";
import { loadXdp } from "../bpf/xdp.ts";

/** enum xdp_action, and indices of what the program counts. */
const XDP_DROP = 1;
const XDP_PASS = 2;
const COUNTS = 3;

const BPF_LINK_CREATE = 28;
const BPF_XDP = 37;

/** An IPv4 packet: Ethernet's header, then IP's. */
const HEADERS_BYTES = 34;
const ETHERTYPE_AT = 12;
const SOURCE_AT = 26;
/** As a little-endian machine reads it. */
const ETHERTYPE_IPV4 = 0x0008;

/**
 * Drops IPv4 packets by where they come from:
 *
 *     struct { __u32 prefixlen; __u32 address; } key = { 32, ip->saddr };
 *     __u32 *blocked = bpf_map_lookup_elem(&blocklist, &key);
 *     verdict = blocked && *blocked ? XDP_DROP : XDP_PASS;
 *     counts[verdict]++;
 */
function instructions(blocklistFd: number, countsFd: number): Buffer {
  return assemble([
    set(r7, XDP_PASS),
    read(r2, r1, XDP_MD.data, 4),
    read(r3, r1, XDP_MD.data_end, 4),
    move(r4, r2),
    add(r4, HEADERS_BYTES),
    ifAbove(r4, r3, "end"),
    read(r4, r2, ETHERTYPE_AT, 2),
    ifOther(r4, ETHERTYPE_IPV4, "end"),
    read(r4, r2, SOURCE_AT, 4),
    write(r10, -4, r4, 4), //         key.address
    writeNumber(r10, -8, 32, 4), //   key.prefixlen
    ...lookup(blocklistFd, -8),
    ifEqual(r0, 0, "count"),
    read(r1, r0, 0, 4),
    ifEqual(r1, 0, "count"),
    set(r7, XDP_DROP),
    label("count"),
    write(r10, -4, r7, 4),
    ...lookup(countsFd, -4),
    ifEqual(r0, 0, "end"),
    set(r1, 1),
    addAtomically(r0, 0, r1),
    label("end"),
    move(r0, r7),
    exit(),
  ]);
}

/** The program on a pinned trie, at an interface of this process' network namespace. It goes with the process. */
export class Filter {
  readonly #bpf: Bpf;
  readonly #countsFd: number;

  /** Throws where the kernel refuses. */
  constructor(pinned: string, ifindex: number) {
    const bpf = openBpf();
    if ("off" in bpf) throw new Error(`loading the program: ${bpf.off}`);
    this.#bpf = bpf;
    const blocklistFd = ok(bpf.get(pinned), `opening ${pinned}`);
    const shape = { keySize: 4, valueSize: 8, maxEntries: COUNTS, mapFlags: 0, mapExtra: 0n, numaNode: 0 };
    const counts = { ...shape, type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, name: "counts" };
    this.#countsFd = ok(bpf.create(counts), "making a map for what is counted");
    const program = loadXdp(bpf, instructions(blocklistFd, this.#countsFd));
    const attr = Buffer.alloc(16);
    attr.writeInt32LE(program, 0);
    attr.writeUInt32LE(ifindex, 4);
    attr.writeUInt32LE(BPF_XDP, 8);
    ok(bpf.bpf(BPF_LINK_CREATE, attr), "attaching the program (BPF_LINK_CREATE, since Linux 5.9)");
  }

  /** IPv4 packets since it was attached. */
  counts(): { passed: number; dropped: number } {
    return { passed: this.#count(XDP_PASS), dropped: this.#count(XDP_DROP) };
  }

  #count(verdict: number): number {
    const key = Buffer.alloc(4);
    key.writeUInt32LE(verdict);
    const value = Buffer.alloc(8);
    ok(this.#bpf.lookup(this.#countsFd, key, value), "reading what is counted");
    return Number(value.readBigUInt64LE(0));
  }
}

function ok(ret: number, doing: string): number {
  if (ret < 0) throw new Error(`${doing}: ${errnoName(-ret)}`);
  return ret;
}
