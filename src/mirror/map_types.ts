/**
 * How each map type is mirrored: a row says how elements get into its kernel map (by key, as a line, for good, by
 * programs alone), which of them the kernel shows, and how references are translated: a descriptor goes in, an id comes
 * out. To mirror another type, add its row.
 */

import { BPF_ATTACH_TYPE, BPF_F, type MapTypeName, mapTypeName } from "../abi/bpf.ts";
import type { Errno } from "../abi/errno.ts";
import { u32Buffer } from "../maps/common.ts";
import { isPerCpu, mirrorShapeOf } from "../maps/facts.ts";
import { lruEntries } from "../maps/lru_shape.ts";
import type { InnerShape, MapRecord } from "../maps/map.ts";
import { ANON_INODE, type ObjectFacts } from "../maps/object.ts";
import { hasFdKeys } from "../maps/references.ts";

/** Translates the state's ids to the kernel's. undefined: the kernel does not have the object. */
export interface References {
  /** A descriptor of the real object. */
  objectFd(id: number): number | undefined;
  objectFacts(id: number): ObjectFacts | undefined;
  /** The reason why a start could not open the object again; undefined: it could, or there was nothing to open. */
  untaken(id: number): string | undefined;
  /** The kernel map of a map. */
  kernelMap(id: number): { readonly fd: number; readonly id: number } | undefined;
  /** A descriptor of any anonymous file. */
  anonymousFd(): number | undefined;
}

/** Names an object that the kernel lacks, so that an element cannot be in the kernel map. */
export interface Lacking {
  readonly lacking: string;
}

/** The object that a value names, by the kernel's id. */
export type Named =
  | { readonly map: number }
  /**
   * `expectedAttachType`: the attach type that programs in values of DEVMAP and CPUMAP must have; 0 for other maps,
   * because the kernel does not report it.
   */
  | { readonly prog: number; readonly expectedAttachType: number };

export interface MirroredType {
  /**
   * How elements get into the kernel map: by their keys; pushed and popped (a stack at one end); added for good; or
   * only by programs.
   */
  readonly filled: "by key" | "queue" | "stack" | "for good" | "by programs";
  /**
   * The elements that the kernel shows: all of them; keys but no values; slots, without telling whether they are
   * filled; an element asked for by its key, but no list of keys; or nothing.
   */
  readonly told: "all" | "keys" | "slots" | "asked" | "nothing";
  /** `told` of a map of sockets whose values have no room for a cookie. */
  readonly toldWithoutCookies?: "keys" | "slots";
  /** The size of a position in BPF_MAP_LOOKUP_BATCH, in bytes: that of a bucket's number, or of a key. */
  readonly positionBytes: (map: MapRecord) => number;
  /** The errno of deleting an absent element. */
  readonly nothingThere: Errno;
  /** The kernel's value of an element that the state lacks: nothing, or zeros. */
  readonly absent: "nothing" | "zeros";
  /** Two keys name the same element if and only if their identities are equal. */
  readonly identity: (key: Buffer) => string;
  /** The number of bits at the beginning of a key, which begins at `at`, that its identity has. */
  readonly significantBits: (map: MapRecord) => (key: Buffer, at: number) => number;
  /** Whether a lookup finds the exact key only. For an LPM trie, a lookup also finds a covering prefix. */
  readonly exact: boolean;
  /** Whether keys or values name objects: the kernel then takes descriptors, and shows ids of its own. */
  readonly refers: "never" | "some do" | "always";
  /**
   * Converts a key, or a value, of an element in the form that `put` of its map type takes, to the form that the kernel
   * takes.
   */
  readonly keyGiven: (refs: References, key: Buffer) => Buffer | Lacking;
  readonly valueGiven: (refs: References, map: MapRecord, value: Buffer) => Buffer | Lacking;
  /** Converts such a value to the form that the kernel shows. */
  readonly valueShown: (refs: References, map: MapRecord, value: Buffer) => Buffer | Lacking;
  /** Converts a value in the ledger's form to the form that the kernel shows. */
  readonly ledgerShown: (refs: References, map: MapRecord, value: Buffer) => Buffer | Lacking;
  /**
   * The object that a value names, given in the kernel's form; null: the value names none. Without this function, the
   * type's values do not identify their objects.
   */
  readonly named?: (shown: Buffer) => Named | null;
  /** Whether the kernel evicts elements by itself, so that a missing one is no fault. */
  readonly evicts: boolean;
  /**
   * Fields in which the kernel map's definition differs from the map's. `cpus`: the number that the machine may have.
   */
  readonly shape: (map: MapRecord, cpus: number) => ShapedMap;
  /** Flags that the kernel sets by itself and BPF_MAP_CREATE refuses. */
  readonly ownFlags: number;
}

type ShapedMap = Pick<MapRecord, "maxEntries" | "mapFlags">;

const BUCKET_BYTES = 4;

function allBytes(key: Buffer): string {
  return key.toString("latin1");
}

/** prefixlen and its bits. A key keeps its further bits as they were given, but they do not distinguish keys. */
function prefix(key: Buffer): string {
  const bits = key.readUInt32LE(0);
  const whole = 4 + (bits >> 3);
  if ((bits & 7) === 0) return key.toString("latin1", 0, whole);
  const last = (key[whole] as number) & (0xff00 >> (bits & 7));
  return key.toString("latin1", 0, whole) + String.fromCharCode(last);
}

const asItIs = (_refs: References, _map: MapRecord, value: Buffer): Buffer => value;

/** A type whose kernel map has the same definition, with elements by key that read as they were written. */
const PLAIN: MirroredType = {
  filled: "by key",
  told: "all",
  positionBytes: (map) => map.keySize,
  nothingThere: "ENOENT",
  absent: "nothing",
  identity: allBytes,
  significantBits: ({ keySize }) => {
    const bits = 8 * keySize;
    return () => bits;
  },
  exact: true,
  refers: "never",
  keyGiven: (_refs, key) => key,
  valueGiven: asItIs,
  valueShown: asItIs,
  ledgerShown: asItIs,
  evicts: false,
  shape: ({ maxEntries, mapFlags }) => ({ maxEntries, mapFlags }),
  ownFlags: 0,
};

const HASH: MirroredType = { ...PLAIN, positionBytes: () => BUCKET_BYTES };
const ARRAY: MirroredType = { ...PLAIN, absent: "zeros" };

/** LOCAL_FREE_TARGET, kernel/bpf/bpf_lru_list.c: the free elements that each CPU may keep in its own list. */
const FREE_OF_A_CPU = 128;

const LRU: MirroredType = {
  ...HASH,
  evicts: true,
  shape: (map, cpus) => (mirrorShapeOf(map) === "roomy" ? roomy(map, cpus) : exact(map, cpus)),
};

/**
 * The kernel evicts before a map is full if all free elements are in the lists of other CPUs, or if there are none.
 * With room for these lists beyond max_entries it never does, and only the ledger evicts. A common list is used for the
 * same reason: with a list for each CPU, all elements would have to fit into any of them.
 */
function roomy({ maxEntries, mapFlags }: ShapedMap, cpus: number): ShapedMap {
  return {
    maxEntries: Math.min(maxEntries + FREE_OF_A_CPU * (cpus + 1), 2 ** 32 - 1),
    mapFlags: (mapFlags & ~BPF_F.BPF_F_NO_COMMON_LRU) >>> 0,
  };
}

/** max_entries is rounded for the machine's number of CPUs: the ledger may have rounded it for another number. */
function exact(map: ShapedMap, cpus: number): ShapedMap {
  return { maxEntries: lruEntries(map, cpus), mapFlags: map.mapFlags };
}

const QUEUE: MirroredType = { ...PLAIN, filled: "queue", told: "nothing" };
/** A type that only programs fill. Its kernel map is empty at first. */
const FOR_PROGRAMS: MirroredType = { ...PLAIN, filled: "by programs", told: "nothing" };

function idIn(value: Buffer): number {
  return value.readUInt32LE(0);
}

function objectFd(refs: References, id: number): Buffer | Lacking {
  const fd = refs.objectFd(id);
  const why = fd === undefined ? refs.untaken(id) : undefined;
  return why === undefined ? fdOf(fd, `object ${id}`) : { lacking: why };
}

function fdOf(fd: number | undefined, what: string): Buffer | Lacking {
  return fd === undefined ? { lacking: `${what} exists in the ledger only` } : u32Buffer(fd);
}

function programId(refs: References, object: number): Buffer | Lacking {
  const facts = refs.objectFacts(object);
  return facts?.kind === "prog" ? u32Buffer(facts.progId) : { lacking: `program ${object} exists in the ledger only` };
}

function innerMap(refs: References, value: Buffer): { readonly fd: number; readonly id: number } | Lacking {
  return refs.kernelMap(idIn(value)) ?? { lacking: `map ${idIn(value)} has no kernel map` };
}

/** Values that are maps: the kernel takes a descriptor, and shows its id. */
const OF_MAPS: Pick<MirroredType, "refers" | "valueGiven" | "valueShown" | "ledgerShown" | "named"> = {
  refers: "always",
  valueGiven(refs, _map, value) {
    const inner = innerMap(refs, value);
    return "lacking" in inner ? inner : u32Buffer(inner.fd);
  },
  valueShown(refs, _map, value) {
    const inner = innerMap(refs, value);
    return "lacking" in inner ? inner : u32Buffer(inner.id);
  },
  ledgerShown(refs, _map, value) {
    const inner = innerMap(refs, value);
    return "lacking" in inner ? inner : u32Buffer(inner.id);
  },
  named: (shown) => ({ map: idIn(shown) }),
};

/** Values that are descriptors of objects. The kernel does not show which slots are filled. */
const HOLDER: MirroredType = {
  ...PLAIN,
  told: "slots",
  refers: "always",
  valueGiven: (refs, _map, value) => objectFd(refs, idIn(value)),
};

const PROGRAMS: MirroredType = {
  ...HOLDER,
  told: "all",
  valueShown: (refs, _map, value) => programId(refs, idIn(value)),
  named: (shown) => ({ prog: idIn(shown), expectedAttachType: 0 }),
};

const COOKIE_BYTES = 8;

/**
 * Values of four or eight bytes that are sockets. The kernel shows a socket as its cookie, for which four bytes have no
 * room.
 */
const SOCKETS: MirroredType = {
  ...HOLDER,
  told: "all",
  toldWithoutCookies: "slots",
  valueGiven(refs, { valueSize }, value) {
    const fd = objectFd(refs, idIn(value));
    return "lacking" in fd ? fd : Buffer.concat([fd, Buffer.alloc(valueSize - fd.length)]);
  },
  valueShown(refs, _map, value) {
    const facts = refs.objectFacts(idIn(value));
    if (facts?.kind !== "socket") return { lacking: `socket ${idIn(value)} exists in the ledger only` };
    const cookie = Buffer.alloc(COOKIE_BYTES);
    cookie.writeBigUInt64LE(BigInt(facts.cookie));
    return cookie;
  },
};

/** Deleting an absent element is EINVAL: __sock_map_delete(), net/core/sock_map.c. */
const SOCKMAP: MirroredType = { ...SOCKETS, nothingThere: "EINVAL" };

/** Values that are an interface or a queue's size, with a program if the value has room for one. */
const TARGETS: MirroredType = {
  ...PLAIN,
  refers: "some do",
  valueGiven: (refs, map, value) => target(map, value, (program) => objectFd(refs, program)),
  valueShown: (refs, map, value) => target(map, value, (program) => programId(refs, program)),
};

const QUEUES: MirroredType = { ...TARGETS, named: (shown) => targetNamed(shown, BPF_ATTACH_TYPE.BPF_XDP_CPUMAP) };

/** dev_map_init_map() adds BPF_F_RDONLY_PROG: programs get a pointer to the value, which they may not write to. */
const DEVICES: MirroredType = {
  ...TARGETS,
  ownFlags: BPF_F.BPF_F_RDONLY_PROG,
  named: (shown) => targetNamed(shown, BPF_ATTACH_TYPE.BPF_XDP_DEVMAP),
};

function target(
  { valueSize }: MapRecord,
  value: Buffer,
  known: (program: number) => Buffer | Lacking,
): Buffer | Lacking {
  const number = value.subarray(0, 4);
  if (valueSize === number.length) return number;
  const program = value.readUInt32LE(4);
  const named = program === 0 ? u32Buffer(0) : known(program);
  return "lacking" in named ? named : Buffer.concat([number, named]);
}

function targetNamed(shown: Buffer, expectedAttachType: number): Named | null {
  const prog = shown.length === 4 ? 0 : shown.readUInt32LE(4);
  return prog === 0 ? null : { prog, expectedAttachType };
}

/**
 * Values that belong to objects. The key is a descriptor, and the kernel shows an element only to a lookup of its key:
 * it lists no keys.
 */
const STORAGE: MirroredType = {
  ...PLAIN,
  told: "asked",
  refers: "always",
  keyGiven(refs, key) {
    return idIn(key) === ANON_INODE ? fdOf(refs.anonymousFd(), "the anonymous inode") : objectFd(refs, idIn(key));
  },
};

/** A string is the reason why maps of a type are not mirrored. */
const MIRRORED: Readonly<Record<Exclude<MapTypeName, "BPF_MAP_TYPE_UNSPEC">, MirroredType | string>> = {
  BPF_MAP_TYPE_HASH: HASH,
  BPF_MAP_TYPE_PERCPU_HASH: HASH,
  BPF_MAP_TYPE_LRU_HASH: LRU,
  BPF_MAP_TYPE_LRU_PERCPU_HASH: LRU,
  BPF_MAP_TYPE_ARRAY: ARRAY,
  BPF_MAP_TYPE_PERCPU_ARRAY: ARRAY,
  BPF_MAP_TYPE_LPM_TRIE: {
    ...PLAIN,
    identity: prefix,
    significantBits:
      ({ keySize }) =>
      (key, at) =>
        Math.min(32 + key.readUInt32LE(at), 8 * keySize),
    exact: false,
  },
  BPF_MAP_TYPE_QUEUE: QUEUE,
  BPF_MAP_TYPE_STACK: { ...QUEUE, filled: "stack" },
  BPF_MAP_TYPE_BLOOM_FILTER: { ...QUEUE, filled: "for good" },
  BPF_MAP_TYPE_ARRAY_OF_MAPS: { ...PLAIN, ...OF_MAPS },
  BPF_MAP_TYPE_HASH_OF_MAPS: { ...HASH, ...OF_MAPS },
  BPF_MAP_TYPE_PROG_ARRAY: PROGRAMS,
  BPF_MAP_TYPE_PERF_EVENT_ARRAY: HOLDER,
  BPF_MAP_TYPE_CGROUP_ARRAY: HOLDER,
  BPF_MAP_TYPE_XSKMAP: HOLDER,
  BPF_MAP_TYPE_SOCKMAP: SOCKMAP,
  BPF_MAP_TYPE_SOCKHASH: { ...SOCKETS, toldWithoutCookies: "keys" },
  BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: SOCKETS,
  BPF_MAP_TYPE_DEVMAP: DEVICES,
  BPF_MAP_TYPE_DEVMAP_HASH: DEVICES,
  BPF_MAP_TYPE_CPUMAP: QUEUES,
  BPF_MAP_TYPE_SK_STORAGE: STORAGE,
  BPF_MAP_TYPE_INODE_STORAGE: STORAGE,
  BPF_MAP_TYPE_TASK_STORAGE: STORAGE,
  BPF_MAP_TYPE_CGRP_STORAGE: STORAGE,
  BPF_MAP_TYPE_STACK_TRACE: FOR_PROGRAMS,
  BPF_MAP_TYPE_RINGBUF: FOR_PROGRAMS,
  BPF_MAP_TYPE_USER_RINGBUF: FOR_PROGRAMS,
  BPF_MAP_TYPE_ARENA: FOR_PROGRAMS,
  BPF_MAP_TYPE_CGROUP_STORAGE: FOR_PROGRAMS,
  BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: FOR_PROGRAMS,
  BPF_MAP_TYPE_STRUCT_OPS:
    "a struct_ops is not mirrored: it is made of a type of the running kernel, which the ledger does not keep",
};

/** The row of a map type's number; undefined: the kernel has no such type. */
function rowOf(type: number): MirroredType | string | undefined {
  const name = mapTypeName(type);
  return name === undefined || name === "BPF_MAP_TYPE_UNSPEC" ? undefined : MIRRORED[name];
}

/** The number of CPUs that the ledger's values have slots for, and the number that the machine may have. */
export interface Cpus {
  readonly ledger: number;
  readonly machine: number;
}

/** The row of a map's type, adjusted to the map; or the reason why the map is not mirrored. */
export function mirrored(map: MapRecord, cpus: Cpus): MirroredType | string {
  const type = rowOf(map.type);
  if (typeof type === "string") return type;
  if (type === undefined) return `map type ${map.type} is not mirrored`;
  if (map.exclusive) return "a map with excl_prog_hash is not mirrored: the hash of its program is not kept";
  // If only programs fill a per-CPU map, its values need not match the ledger's CPU count.
  if (isPerCpu(map.type) && type.filled !== "by programs" && cpus.ledger !== cpus.machine)
    return `values of ${cpus.ledger} CPUs are not mirrored: the kernel's would be of ${cpus.machine}`;
  const described = map.inner === null ? null : needsBtf(map.inner);
  if (described !== null)
    return `maps with ${described} inside another are not mirrored: the template's BTF is not kept`;
  if (type.toldWithoutCookies === undefined || map.valueSize === COOKIE_BYTES) return type;
  return { ...type, told: type.toldWithoutCookies };
}

/** A feature of a map that needs BTF; null if it has none. */
function needsBtf({ type, special }: InnerShape): string | null {
  if (hasFdKeys(type)) return "local storage";
  return special[0] === undefined ? null : `a ${special[0].kind}`;
}

/** The reason why elements of a kernel map cannot be imported into the ledger; null if they can. */
export function cannotTake(map: MapRecord, cpus: Cpus): string | null {
  const type = mirrored(map, cpus);
  if (typeof type === "string") return type;
  if (type.told !== "all") return NOT_TOLD;
  return type.refers === "never" ? null : "the kernel shows ids of its own in a map of this type, not the ledger's";
}

/**
 * The reason why a foreign kernel map cannot be adopted; null if it can. Unlike an import, an adoption may have values
 * that name objects, if the kernel opens those objects by id.
 */
export function cannotAdopt(map: MapRecord, cpus: Cpus): string | null {
  const type = mirrored(map, cpus);
  if (typeof type === "string") return type;
  if (type.told !== "all") return NOT_TOLD;
  if (type.refers === "never" || type.named !== undefined) return null;
  return "the kernel shows sockets by their cookies: nothing opens a socket by its cookie";
}

const NOT_TOLD = "the kernel does not show the elements of a map of this type";
