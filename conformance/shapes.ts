import * as fc from "fast-check";
import { BPF_F, BPF_MAP_TYPE, type MapTypeName } from "../src/abi/bpf.ts";
import { seldom } from "./chance.ts";
import { BTF_TYPE } from "./stream_btf.ts";

/** What maps random streams make: mostly such as can be made, sometimes others. */

export const STREAM_TYPES = [
  "HASH",
  "ARRAY",
  "PERCPU_HASH",
  "PERCPU_ARRAY",
  "LRU_HASH",
  "LRU_PERCPU_HASH",
  "LPM_TRIE",
  "ARRAY_OF_MAPS",
  "HASH_OF_MAPS",
  "QUEUE",
  "STACK",
  "BLOOM_FILTER",
  "DEVMAP",
  "DEVMAP_HASH",
  "CPUMAP",
  "PROG_ARRAY",
  "PERF_EVENT_ARRAY",
  "CGROUP_ARRAY",
  "SOCKMAP",
  "SOCKHASH",
  "XSKMAP",
  "REUSEPORT_SOCKARRAY",
  "SK_STORAGE",
  "INODE_STORAGE",
  "TASK_STORAGE",
  "CGRP_STORAGE",
  "CGROUP_STORAGE",
  "PERCPU_CGROUP_STORAGE",
  "STACK_TRACE",
  "RINGBUF",
  "USER_RINGBUF",
  "ARENA",
  "STRUCT_OPS",
] as const;
export type StreamType = (typeof STREAM_TYPES)[number];

export interface Shape {
  readonly type: StreamType | number;
  readonly keySize: number | null;
  readonly valueSize: number | null;
  readonly maxEntries: number | null;
  /** Sizes, where not said otherwise: small numbers that make one that the type takes. */
  readonly seed: number;
  readonly flags: number;
  readonly btf: BtfUse;
  /** A descriptor, as in OnMap: the template of a map of maps. */
  readonly inner: number;
  /** As an earlier map was made, modulo how many there are, so that it can be in a map of maps; null: anew. */
  readonly again: number | null;
  readonly more: Readonly<Record<string, unknown>>;
}

/** What describes keys and values: what fits, a value with a lock or a timer in it, what does not fit, nothing. */
type BtfUse = "none" | "plain" | "lock" | "timer" | "odd";

/** Sizes and flags that a type takes, by small numbers. */
interface Usual {
  readonly key: number;
  readonly value: number;
  readonly flags: number;
  readonly entries: number;
  readonly extra?: string | number;
}

const { BPF_F_NO_PREALLOC, BPF_F_NO_COMMON_LRU, BPF_F_ZERO_SEED, BPF_F_CLONE } = BPF_F;
const { BPF_F_MMAPABLE, BPF_F_INNER_MAP, BPF_F_PRESERVE_ELEMS, BPF_F_STACK_BUILD_ID } = BPF_F;
const PAGE_BYTES = 4096;
/** More than twice the keys that a stream has for a map: nothing is evicted. */
const LRU_ENTRIES = 256;
const LRU_SMALL_ENTRIES = [1, 2, 4, 16];

function pick<T>(choices: readonly [T, ...T[]], seed: number): T {
  return choices[seed % choices.length] as T;
}

const keySize = (seed: number): number => pick([4, 4, 4, 1, 8, 3], seed);
const valueSize = (seed: number): number => pick([4, 8, 1, 5, 12], seed);
const entries = (seed: number): number => pick([1, 2, 3, 6, 9, 16, 30, 40], seed);
const few = (seed: number): number => 1 + (seed % 6);

function hashOf(value: (seed: number) => number, flags: readonly [number, ...number[]]): (seed: number) => Usual {
  return (seed) => ({ key: keySize(seed), value: value(seed), flags: pick(flags, seed), entries: entries(seed) });
}

function recent(flags: readonly [number, ...number[]]): (seed: number) => Usual {
  return (seed) => ({
    key: keySize(seed),
    value: valueSize(seed),
    flags: pick(flags, seed),
    entries: seed % 4 === 3 ? pick(LRU_SMALL_ENTRIES as [number], seed >> 2) : LRU_ENTRIES,
  });
}

function indexed(
  value: (seed: number) => number,
  flags: readonly [number, ...number[]] = [0],
): (seed: number) => Usual {
  return (seed) => ({ key: 4, value: value(seed), flags: pick(flags, seed), entries: few(seed) });
}

function line(flags: readonly [number, ...number[]]): (seed: number) => Usual {
  return (seed) => ({ key: 0, value: valueSize(seed), flags: pick(flags, seed), entries: few(seed) });
}

function storage(flags: readonly [number, ...number[]]): (seed: number) => Usual {
  return (seed) => ({ key: 4, value: pick([4, 8, 8], seed), flags: pick(flags, seed), entries: 0 });
}

function programStorage(): (seed: number) => Usual {
  return (seed) => ({ key: pick([8, 16], seed), value: valueSize(seed), flags: 0, entries: 0 });
}

function ring(): (seed: number) => Usual {
  return (seed) => ({
    key: 0,
    value: 0,
    flags: 0,
    entries: pick([PAGE_BYTES, 4 * PAGE_BYTES, PAGE_BYTES, 5000], seed),
  });
}

const fourOrEight = (seed: number): number => pick([4, 8], seed);
const four = (): number => 4;

const USUAL: Readonly<Record<StreamType, (seed: number) => Usual>> = {
  HASH: hashOf(valueSize, [0, BPF_F_NO_PREALLOC, BPF_F_ZERO_SEED]),
  ARRAY: indexed(valueSize, [0, 0, BPF_F_INNER_MAP, BPF_F_MMAPABLE]),
  PERCPU_HASH: hashOf(valueSize, [0, BPF_F_NO_PREALLOC, BPF_F_ZERO_SEED]),
  PERCPU_ARRAY: indexed(valueSize),
  LRU_HASH: recent([0, BPF_F_NO_COMMON_LRU, BPF_F_ZERO_SEED]),
  LRU_PERCPU_HASH: recent([0, BPF_F_NO_COMMON_LRU, BPF_F_ZERO_SEED]),
  LPM_TRIE: (seed) => ({
    key: pick([8, 8, 5, 6], seed),
    value: valueSize(seed),
    flags: BPF_F_NO_PREALLOC,
    entries: 2 + (seed % 11),
  }),
  ARRAY_OF_MAPS: indexed(four),
  HASH_OF_MAPS: hashOf(four, [0, BPF_F_NO_PREALLOC]),
  QUEUE: line([0]),
  STACK: line([0]),
  BLOOM_FILTER: (seed) => ({ ...line([0, BPF_F_ZERO_SEED])(seed), entries: 64, extra: pick([0, 0, 3, 15], seed) }),
  DEVMAP: indexed(fourOrEight),
  DEVMAP_HASH: indexed(fourOrEight),
  CPUMAP: indexed(fourOrEight),
  PROG_ARRAY: indexed(four),
  PERF_EVENT_ARRAY: indexed(four, [0, BPF_F_PRESERVE_ELEMS]),
  CGROUP_ARRAY: indexed(four),
  SOCKMAP: indexed(fourOrEight),
  SOCKHASH: (seed) => ({ ...indexed(fourOrEight)(seed), key: keySize(seed) }),
  XSKMAP: indexed(four),
  REUSEPORT_SOCKARRAY: indexed(fourOrEight),
  SK_STORAGE: storage([BPF_F_NO_PREALLOC, BPF_F_NO_PREALLOC | BPF_F_CLONE]),
  INODE_STORAGE: storage([BPF_F_NO_PREALLOC]),
  TASK_STORAGE: storage([BPF_F_NO_PREALLOC]),
  CGRP_STORAGE: storage([BPF_F_NO_PREALLOC]),
  CGROUP_STORAGE: programStorage(),
  PERCPU_CGROUP_STORAGE: programStorage(),
  STACK_TRACE: (seed) => ({
    key: 4,
    ...pick<{ value: number; flags: number }>(
      [
        { value: 8, flags: 0 },
        { value: 1016, flags: 0 },
        { value: 64, flags: BPF_F_STACK_BUILD_ID },
      ],
      seed,
    ),
    entries: few(seed),
  }),
  RINGBUF: ring(),
  USER_RINGBUF: ring(),
  ARENA: (seed) => ({
    key: 0,
    value: 0,
    flags: BPF_F_MMAPABLE,
    entries: pick([1, 3, 100], seed),
    extra: pick([0, 0, "0x100000000000"], seed),
  }),
  // The type's own struct exists in a kernel only: it is never made, but what comes before the struct is checked.
  STRUCT_OPS: () => ({ key: 4, value: 64, flags: 0, entries: 1 }),
};

/** Storage is not made without. */
const NEEDS_BTF: ReadonlySet<unknown> = new Set(["SK_STORAGE", "INODE_STORAGE", "TASK_STORAGE", "CGRP_STORAGE"]);

/** What a shape asks for: what it leaves open is such that the type takes it. Descriptors are not yet in it. */
export function createAttr(shape: Shape): Readonly<Record<string, unknown>> {
  const { type, seed, flags, more } = shape;
  const its = USUAL[typeof type === "number" ? "HASH" : type](seed);
  const attr = {
    map_type: typeof type === "number" ? type : typeNumber(type),
    key_size: shape.keySize ?? its.key,
    value_size: shape.valueSize ?? its.value,
    max_entries: shape.maxEntries ?? its.entries,
    map_flags: (its.flags ^ flags) >>> 0,
    ...(its.extra === undefined ? {} : { map_extra: its.extra }),
    // 0 to 2 are open in the process that asks the kernel, and not in a session.
    btf_fd: -1,
    map_token_fd: -1,
  };
  const btf = btfAttr(NEEDS_BTF.has(type) && shape.btf === "none" ? "plain" : shape.btf, shape, attr);
  return { ...attr, ...btf, ...more };
}

export function typeNumber(type: StreamType): number {
  return BPF_MAP_TYPE[`BPF_MAP_TYPE_${type}` as MapTypeName];
}

/** Whether a descriptor of the stream's BTF has to be put into btf_fd. */
export function wantsBtf(attr: Readonly<Record<string, unknown>>): boolean {
  return attr.btf_value_type_id !== undefined || attr.btf_key_type_id !== undefined;
}

function btfAttr(
  use: BtfUse,
  { type, seed, valueSize }: Shape,
  { key_size, value_size }: { key_size: number; value_size: number },
): Readonly<Record<string, unknown>> {
  const keyType = BTF_TYPE.ofKey(type === "LPM_TRIE", key_size);
  switch (use) {
    case "none":
      return {};
    case "plain":
      return { btf_key_type_id: keyType, btf_value_type_id: BTF_TYPE.ofValue(value_size) };
    case "lock":
      return { btf_key_type_id: keyType, btf_value_type_id: BTF_TYPE.locked, value_size: valueSize ?? 16 };
    case "timer":
      return { btf_key_type_id: keyType, btf_value_type_id: BTF_TYPE.timed, value_size: valueSize ?? 24 };
    case "odd":
      return { btf_key_type_id: seed % 10, btf_value_type_id: (seed >> 3) % 10 };
  }
}

const CREATE_EXTRAS = [
  { map_name: "not-allowed" },
  { map_name: "x".repeat(16) },
  { map_name: "f".repeat(15) },
  { map_name: "Z9_." },
  { map_name: "\xe9t\xe9" },
  { map_name: "a\0-" },
  { map_extra: 1 },
  { map_extra: 16 },
  { map_extra: "0x100000000" },
  { map_extra: "0xfffff000" },
  { numa_node: 1 },
  { numa_node: -1 },
  { btf_key_type_id: 1, btf_value_type_id: 1 },
  { btf_key_type_id: 1 },
  { btf_value_type_id: 1 },
  { btf_vmlinux_value_type_id: 1 },
  { inner_map_fd: -1 },
  { map_ifindex: 2147483632 },
  { map_ifindex: 1 },
  { excl_prog_hash_size: 32 },
  { excl_prog_hash: "11".repeat(32), excl_prog_hash_size: 32 },
  { excl_prog_hash: "11".repeat(31), excl_prog_hash_size: 32 },
  { excl_prog_hash: "11".repeat(32), excl_prog_hash_size: 31 },
];

/** Never so large that a map is made which takes gigabytes. */
const ODD_SIZES = [0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 32, 33, 255, 256, 260, 261, 512, 513, 4096, 0x80000000, 0xffffffff];
const ODD_ENTRIES = [0, 1, 2, 3, 33, 64, 256, 257];

function odd(usual: number, choices: readonly number[]): fc.Arbitrary<number | null> {
  return seldom<number | null>(usual, fc.constant(null), fc.constantFrom(...choices));
}

const inner = seldom(5, fc.nat(7), fc.constantFrom(-1, -2, -3, -4));
const again = seldom<number | null>(20, fc.constant(null), fc.nat(7));
const btf = fc.oneof(
  { arbitrary: fc.constant<BtfUse>("none"), weight: 80 },
  { arbitrary: fc.constantFrom<BtfUse>("plain", "plain", "lock", "lock", "timer", "odd"), weight: 20 },
);

export function shape(types: readonly StreamType[]): fc.Arbitrary<Shape> {
  return fc.record({
    type: seldom<StreamType | number>(1, fc.constantFrom(...types), fc.constantFrom(0, 34, 35, 255, 0xffffffff)),
    keySize: odd(6, ODD_SIZES),
    valueSize: odd(6, ODD_SIZES),
    maxEntries: odd(5, ODD_ENTRIES),
    seed: fc.nat(999),
    flags: fc.oneof(
      { arbitrary: fc.constant(0), weight: 80 },
      { arbitrary: fc.nat(18).map((bit) => 1 << bit), weight: 12 },
      { arbitrary: fc.tuple(fc.nat(31), fc.nat(31)).map(([a, b]) => ((1 << a) | (1 << b)) >>> 0), weight: 8 },
    ),
    btf,
    inner,
    again,
    more: seldom<Readonly<Record<string, unknown>>>(15, fc.constant({}), fc.constantFrom(...CREATE_EXTRAS)),
  });
}

/** A map that can be made, so that most streams have something to work on. */
export function usualShape(types: readonly StreamType[]): fc.Arbitrary<Shape> {
  return fc.record({
    type: fc.constantFrom(...types),
    keySize: fc.constant(null),
    valueSize: fc.constant(null),
    maxEntries: fc.constant(null),
    seed: fc.nat(999),
    flags: fc.constant(0),
    btf: seldom<BtfUse>(10, fc.constant("none"), fc.constantFrom("plain", "lock")),
    inner: fc.nat(7),
    again: fc.constant(null),
    more: fc.constant({}),
  });
}
