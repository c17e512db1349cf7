/**
 * The facts of a map type: constants that the kernel says of it in many places, and that each row of types.ts says once. A row begins
 * with PLAIN_FACTS, or with the facts of its family, and names the facts in which it differs.
 */
export interface MapFacts {
  /** A value is one slot for each possible CPU, each rounded up to 8 bytes: bpf_map_value_size(), kernel/bpf/syscall.c. */
  readonly perCpu: boolean;
  /** The kernel walks keys in an order that it keeps; not: in that of its buckets, which differs from one map to the next. */
  readonly ordered: boolean;
  /** An update of a full map evicts an element. */
  readonly evicts: boolean;
  /** Every place up to max_entries holds an element, whether it has a cell or not. */
  readonly dense: boolean;
  /** Values stand in a line without keys: they are pushed, and popped by BPF_MAP_LOOKUP_AND_DELETE_ELEM, which takes no flags then. */
  readonly line: boolean;
  /** A lookup reads the value instead of writing it: it asks whether the map may have it. */
  readonly asks: boolean;
  /** A key is a descriptor of an object of this kind, to which the element belongs. */
  readonly keyFd: "socket" | "inode" | "process" | "cgroup" | null;
  /** A key begins with a cgroup's id, a u64. */
  readonly cgroupKeys: boolean;
  /** A value has a descriptor. */
  readonly value: Reference | null;
  /** A value begins with the index of a network interface, and the element goes with the interface. */
  readonly toInterfaces: boolean;
  /** The capability that map_create(), kernel/bpf/syscall.c, asks for beside CAP_BPF. */
  readonly capability: "CAP_NET_ADMIN" | null;
  /** BPF_F_ZERO_SEED is for it, and needs CAP_SYS_ADMIN: htab_map_alloc_check(), kernel/bpf/hashtab.c. */
  readonly seeded: boolean;
  /** map_extra means something: map_create(). */
  readonly mapExtra: boolean;
  /** map_ifindex may name an interface that has the map: bpf_map_offload_map_alloc(), kernel/bpf/offload.c. */
  readonly offload: boolean;
  /** Fields of struct btf_record that its values may have: map_check_btf(), kernel/bpf/syscall.c. */
  readonly special: readonly SpecialKind[];
  /** What mmap(2) of a map shows: its values, memory that exists inside a kernel only, or nothing. */
  readonly memory: "values" | "kernel only" | null;
  /** BPF_OBJ_GET_INFO_BY_FD gives a digest of its contents: map_get_hash of struct bpf_map_ops. */
  readonly digest: boolean;
  /**
   * Whether it can be inside a map of maps: map_meta_equal of struct bpf_map_ops. "same size": with the template's max_entries
   * unless it has BPF_F_INNER_MAP, since programs index it without a check of their own.
   */
  readonly inner: "any size" | "same size" | "never";
  /** Its value is a struct of the running kernel: btf_vmlinux_value_type_id is for it, and BPF_MAP_FREEZE refuses it. */
  readonly kernelStruct: boolean;
}

/** A descriptor in a value, where an answer has the id of what it refers to. */
export interface Reference {
  /** Where in a value it stands, and how many bytes an answer has there. */
  readonly at: number;
  readonly bytes: 4 | 8;
  /** The id that a lookup answers in the descriptor's place; null: these maps answer no lookups. */
  readonly answers: IdKind | null;
}

/** Numbers that are given by whoever keeps the maps. */
export type IdKind = "map" | "prog" | "cookie" | "btf" | "cgroup";

/** Fields of a value that only programs touch. */
export const SPECIAL_KINDS = ["bpf_spin_lock", "bpf_res_spin_lock", "bpf_timer", "bpf_wq", "bpf_task_work"] as const;

export type SpecialKind = (typeof SPECIAL_KINDS)[number];

export const LOCKS: readonly SpecialKind[] = ["bpf_spin_lock", "bpf_res_spin_lock"];
export const CALLBACKS: readonly SpecialKind[] = ["bpf_timer", "bpf_wq", "bpf_task_work"];

/** A map with keys and values that name nothing, for anybody with CAP_BPF. */
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
/** struct bpf_devmap_val and bpf_cpumap_val: a program behind four bytes of another kind. */
export const SECOND_PROGRAM: Reference = { at: 4, bytes: 4, answers: "prog" };
