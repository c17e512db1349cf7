/**
 * The facts of a map type: constants that the kernel uses in many places, and that a row of types.ts states once. A row
 * begins with PLAIN_FACTS or with the facts of its family, and names the facts that differ.
 */

export interface MapFacts {
  /**
   * A value has one slot for each possible CPU, each rounded up to 8 bytes: bpf_map_value_size(), kernel/bpf/syscall.c.
   */
  readonly perCpu: boolean;
  /**
   * The kernel walks keys in a fixed order. If false, it walks them by bucket, in an order that differs from map to
   * map.
   */
  readonly ordered: boolean;
  /** An update of a full map evicts an element. */
  readonly evicts: boolean;
  /** Every index below max_entries is an element, whether or not it has a cell. */
  readonly dense: boolean;
  /**
   * A queue or stack: values have no keys; they are pushed, and popped by BPF_MAP_LOOKUP_AND_DELETE_ELEM, which allows
   * no flags then.
   */
  readonly line: boolean;
  /** A lookup takes the value as input, and answers whether the map may contain it. */
  readonly asks: boolean;
  /** A key is a descriptor of an object of this kind, and the element belongs to the object. */
  readonly keyFd: "socket" | "inode" | "process" | "cgroup" | null;
  /** A key begins with a cgroup's id, a u64. */
  readonly cgroupKeys: boolean;
  /** A value has a descriptor. */
  readonly value: Reference | null;
  /** A value begins with the index of a network interface, and the element is deleted together with the interface. */
  readonly toInterfaces: boolean;
  /** The capability that map_create(), kernel/bpf/syscall.c, requires in addition to CAP_BPF. */
  readonly capability: "CAP_NET_ADMIN" | null;
  /** BPF_F_ZERO_SEED is allowed, and requires CAP_SYS_ADMIN: htab_map_alloc_check(), kernel/bpf/hashtab.c. */
  readonly seeded: boolean;
  /** map_extra is allowed: map_create(). */
  readonly mapExtra: boolean;
  /**
   * map_ifindex may name a network interface to which the map is offloaded: bpf_map_offload_map_alloc(),
   * kernel/bpf/offload.c.
   */
  readonly offload: boolean;
  /** Special fields that values may have: map_check_btf(), kernel/bpf/syscall.c. */
  readonly special: readonly SpecialKind[];
  /** The memory that mmap(2) of a map shows: its values, memory that exists inside a kernel only, or none. */
  readonly memory: "values" | "kernel only" | null;
  /** BPF_OBJ_GET_INFO_BY_FD answers a digest of its contents: map_get_hash of struct bpf_map_ops. */
  readonly digest: boolean;
  /**
   * Whether it can be an inner map: map_meta_equal of struct bpf_map_ops. "same size": max_entries must be the
   * template's, because programs index the inner map without a check of their own; with BPF_F_INNER_MAP it may be any.
   */
  readonly inner: "any size" | "same size" | "never";
  /**
   * Its value is a struct of the running kernel: btf_vmlinux_value_type_id is allowed, and BPF_MAP_FREEZE is refused.
   */
  readonly kernelStruct: boolean;
}

/** A descriptor in a value. Lookups answer an id in its place. */
export interface Reference {
  /** The offset in a value, and the number of bytes that a lookup answers there. */
  readonly at: number;
  readonly bytes: 4 | 8;
  /** The kind of id that a lookup answers; null: lookups are refused. */
  readonly answers: IdKind | null;
}

/** Kinds of ids that each kernel, and each ledger, assigns by itself: the same object has another id in another one. */
export type IdKind = "map" | "prog" | "cookie" | "btf" | "cgroup";

/** Fields of a value that only programs access. */
export const SPECIAL_KINDS = ["bpf_spin_lock", "bpf_res_spin_lock", "bpf_timer", "bpf_wq", "bpf_task_work"] as const;

export type SpecialKind = (typeof SPECIAL_KINDS)[number];

export const LOCKS: readonly SpecialKind[] = ["bpf_spin_lock", "bpf_res_spin_lock"];
export const CALLBACKS: readonly SpecialKind[] = ["bpf_timer", "bpf_wq", "bpf_task_work"];

/** The facts of a plain map: keys and values are plain bytes, and CAP_BPF suffices. */
export const PLAIN_FACTS: MapFacts = {
  perCpu: false,
  ordered: true,
  evicts: false,
  dense: false,
  line: false,
  asks: false,
  keyFd: null,
  cgroupKeys: false,
  value: null,
  toInterfaces: false,
  capability: null,
  seeded: false,
  mapExtra: false,
  offload: false,
  special: [],
  memory: null,
  digest: false,
  inner: "any size",
  kernelStruct: false,
};

/** struct bpf_htab, kernel/bpf/hashtab.c. */
export const HASH_FACTS: MapFacts = { ...PLAIN_FACTS, ordered: false, seeded: true };

export const MAPS: Reference = { at: 0, bytes: 4, answers: "map" };
export const PROGRAMS: Reference = { at: 0, bytes: 4, answers: "prog" };
export const SOCKETS: Reference = { at: 0, bytes: 8, answers: "cookie" };
export const NOT_SHOWN: Reference = { at: 0, bytes: 4, answers: null };
/** struct bpf_devmap_val and bpf_cpumap_val: a program after four other bytes. */
export const SECOND_PROGRAM: Reference = { at: 4, bytes: 4, answers: "prog" };
