import { BPF_ATTACH_TYPE, BPF_F, type MapTypeName, mapTypeName } from "../abi/bpf.ts";
import type { Errno } from "../abi/errno.ts";
import { u32Buffer } from "../maps/common.ts";
import { isPerCpu, mirrorShapeOf } from "../maps/facts.ts";
import { lruEntries } from "../maps/lru_shape.ts";
import type { InnerShape, MapRecord } from "../maps/map.ts";
import { ANON_INODE, type ObjectFacts } from "../maps/object.ts";
import { hasFdKeys } from "../maps/references.ts";

/** What the state names by its own ids, as the kernel has it. undefined: the kernel does not. */
export interface References {
  /** A descriptor of the real object. */
  objectFd(id: number): number | undefined;
  objectFacts(id: number): ObjectFacts | undefined;
  /** Why a start could not open it again; undefined: it could, or there was nothing to open. */
  untaken(id: number): string | undefined;
  /** The kernel map of a map. */
  kernelMap(id: number): { readonly fd: number; readonly id: number } | undefined;
  /** Any descriptor of an anonymous file. */
  anonymousFd(): number | undefined;
}

/** What the kernel lacks, so that an element cannot be there. */
export interface Lacking {
  readonly lacking: string;
}

/** What a value names, by the kernel's id of it. */
export type Named =
  | { readonly map: number }
  /** `expectedAttachType`: what programs in a map of this type must have; the kernel does not tell it of others, 0. */
  | { readonly prog: number; readonly expectedAttachType: number };

/** What the mirror must know of a map type. To mirror another type: its row. */
export interface MirroredType {
  /**
   * How elements get into the kernel map: by their keys; pushed and popped, the stack at one end; added, and never
   * taken out; not at all, for only programs put any in.
   */
  readonly filled: "by key" | "queue" | "stack" | "for good" | "by programs";
  /**
   * What the kernel tells of them: all; which keys there are, and no values; which slots there are, filled or not; what it
   * is asked for, and no keys; nothing.
   */
  readonly told: "all" | "keys" | "slots" | "asked" | "nothing";
  /** The same of a map of sockets whose values have no room for a cookie. */
  readonly toldWithoutCookies?: "keys" | "slots";
  /** Bytes of a position in BPF_MAP_LOOKUP_BATCH: a bucket's number, or a key. */
  readonly positionBytes: (map: MapRecord) => number;
  /** What the kernel says to deleting what is not there. */
  readonly nothingThere: Errno;
  /** What the kernel shows where the state has no element: nothing, or zeros. */
  readonly absent: "nothing" | "zeros";
  /** Two keys mean the same element if and only if this is the same. */
  readonly identity: (key: Buffer) => string;
  /** A lookup finds what has the very key, or nothing; not: something that covers it. */
  readonly exact: boolean;
  /** Whether keys or values name something else: the kernel takes descriptors, and shows ids of its own. */
  readonly refers: "never" | "some do" | "always";
  /** A key as the kernel takes it, and a value; of an element as `put` of its map type takes it. */
  readonly keyGiven: (refs: References, key: Buffer) => Buffer | Lacking;
  readonly valueGiven: (refs: References, map: MapRecord, value: Buffer) => Buffer | Lacking;
  /** The value as the kernel shows it. */
  readonly valueShown: (refs: References, map: MapRecord, value: Buffer) => Buffer | Lacking;
  /** The same of a value as the ledger shows it. */
  readonly ledgerShown: (refs: References, map: MapRecord, value: Buffer) => Buffer | Lacking;
  /** What a value names, by the value as the kernel shows it; null: nothing. Left out: that does not tell. */
  readonly named?: (shown: Buffer) => Named | null;
  /** The kernel lets elements go by itself: one that is missing in the kernel map is no fault. */
  readonly evicts: boolean;
  /** What the kernel map is other than the map, as the kernel shows it; `cpus`: that the machine may have. */
  readonly shape: (map: MapRecord, cpus: number) => ShapedMap;
  /** Flags that the kernel sets by itself, and does not take. */
  readonly ownFlags: number;
}

type ShapedMap = Pick<MapRecord, "maxEntries" | "mapFlags">;

const BUCKET_BYTES = 4;

function allBytes(key: Buffer): string {
  return key.toString("latin1");
}

/** prefixlen and the bits that count: those behind it are kept as they were given, but do not tell keys apart. */
function prefix(key: Buffer): string {
  const bits = key.readUInt32LE(0);
  const whole = 4 + (bits >> 3);
  if ((bits & 7) === 0) return key.toString("latin1", 0, whole);
  const last = (key[whole] as number) & (0xff00 >> (bits & 7));
  return key.toString("latin1", 0, whole) + String.fromCharCode(last);
}

const asItIs = (_refs: References, _map: MapRecord, value: Buffer): Buffer => value;

/** A kernel map like its map, with elements by key that read as they were written. */
const PLAIN: MirroredType = {
  filled: "by key",
  told: "all",
  positionBytes: (map) => map.keySize,
  nothingThere: "ENOENT",
  absent: "nothing",
  identity: allBytes,
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

/** LOCAL_FREE_TARGET, kernel/bpf/bpf_lru_list.c: so many free elements a CPU may keep to itself. */
const FREE_OF_A_CPU = 128;

const LRU: MirroredType = {
  ...HASH,
  evicts: true,
  shape: (map, cpus) => (mirrorShapeOf(map) === "roomy" ? roomy(map, cpus) : exact(map, cpus)),
};

/**
 * The kernel begins to evict before a map is full: if all free elements are in other CPUs' lists, or if there are none.
 * With room for these beside max_entries elements it never comes to that, and only the ledger evicts. For the same
 * reason there is one list: with a list for each CPU the elements would have to fit into any of them.
 */
function roomy({ maxEntries, mapFlags }: ShapedMap, cpus: number): ShapedMap {
  return {
    maxEntries: Math.min(maxEntries + FREE_OF_A_CPU * (cpus + 1), 2 ** 32 - 1),
    mapFlags: (mapFlags & ~BPF_F.BPF_F_NO_COMMON_LRU) >>> 0,
  };
}

/** The ledger may have rounded for another number of CPUs than the machine has: the kernel rounds again. */
function exact(map: ShapedMap, cpus: number): ShapedMap {
  return { maxEntries: lruEntries(map, cpus), mapFlags: map.mapFlags };
}

const QUEUE: MirroredType = { ...PLAIN, filled: "queue", told: "nothing" };
/** A map that programs fill: the kernel map is there for them, empty at first. */
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

/** Values that are maps: written as a descriptor, read as the kernel's id. */
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

/** Values that are descriptors of objects; the kernel does not tell which are there. */
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

/** Of four or eight bytes; a socket is shown as its cookie, which four have no room for. */
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

/** __sock_map_delete(), net/core/sock_map.c. */
const SOCKMAP: MirroredType = { ...SOCKETS, nothingThere: "EINVAL" };

/** An interface or a queue's size, and a program where the value has room for one. */
const TARGETS: MirroredType = {
  ...PLAIN,
  refers: "some do",
  valueGiven: (refs, map, value) => target(map, value, (program) => objectFd(refs, program)),
  valueShown: (refs, map, value) => target(map, value, (program) => programId(refs, program)),
};

const QUEUES: MirroredType = { ...TARGETS, named: (shown) => targetNamed(shown, BPF_ATTACH_TYPE.BPF_XDP_CPUMAP) };

/** dev_map_init_map(): programs get a pointer to what they look up, which they may not write to. */
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

/** Values by the objects that they belong to: a key is a descriptor, and one that is not asked for is not told. */
const STORAGE: MirroredType = {
  ...PLAIN,
  told: "asked",
  refers: "always",
  keyGiven(refs, key) {
    return idIn(key) === ANON_INODE ? fdOf(refs.anonymousFd(), "the anonymous inode") : objectFd(refs, idIn(key));
  },
};

/** A string says why maps of a type are not mirrored. */
const MIRRORED: Readonly<Record<Exclude<MapTypeName, "BPF_MAP_TYPE_UNSPEC">, MirroredType | string>> = {
  BPF_MAP_TYPE_HASH: HASH,
  BPF_MAP_TYPE_PERCPU_HASH: HASH,
  BPF_MAP_TYPE_LRU_HASH: LRU,
  BPF_MAP_TYPE_LRU_PERCPU_HASH: LRU,
  BPF_MAP_TYPE_ARRAY: ARRAY,
  BPF_MAP_TYPE_PERCPU_ARRAY: ARRAY,
  BPF_MAP_TYPE_LPM_TRIE: { ...PLAIN, identity: prefix, exact: false },
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

/** The row of a type's number; undefined: the kernel has no such type. */
function rowOf(type: number): MirroredType | string | undefined {
  const name = mapTypeName(type);
  return name === undefined || name === "BPF_MAP_TYPE_UNSPEC" ? undefined : MIRRORED[name];
}

/** For how many CPUs the ledger's values are, and how many the machine may have. */
export interface Cpus {
  readonly ledger: number;
  readonly machine: number;
}

/** How a map is mirrored, or why it is not. */
export function mirrored(map: MapRecord, cpus: Cpus): MirroredType | string {
  const type = rowOf(map.type);
  if (typeof type === "string") return type;
  if (type === undefined) return `map type ${map.type} is not mirrored`;
  if (map.exclusive) return "a map with excl_prog_hash is not mirrored: the hash of its program is not kept";
  // Values that programs put in are of the machine alone.
  if (isPerCpu(map.type) && type.filled !== "by programs" && cpus.ledger !== cpus.machine)
    return `values of ${cpus.ledger} CPUs are not mirrored: the kernel's would be of ${cpus.machine}`;
  const described = map.inner === null ? null : needsBtf(map.inner);
  if (described !== null)
    return `maps with ${described} inside another are not mirrored: the template's BTF is not kept`;
  if (type.toldWithoutCookies === undefined || map.valueSize === COOKIE_BYTES) return type;
  return { ...type, told: type.toldWithoutCookies };
}

/** What of a map cannot be had without BTF; null: nothing. */
function needsBtf({ type, special }: InnerShape): string | null {
  if (hasFdKeys(type)) return "local storage";
  return special[0] === undefined ? null : `a ${special[0].kind}`;
}

/** Why what the kernel has of a map cannot be taken over into the ledger, or null: it can. */
export function cannotTake(map: MapRecord, cpus: Cpus): string | null {
  const type = mirrored(map, cpus);
  if (typeof type === "string") return type;
  if (type.told !== "all") return NOT_TOLD;
  return type.refers === "never" ? null : "what the kernel has in a map of this type are ids of its own";
}

/** The same of a kernel map that some other program has made: what it names can be opened by the kernel's ids. */
export function cannotAdopt(map: MapRecord, cpus: Cpus): string | null {
  const type = mirrored(map, cpus);
  if (typeof type === "string") return type;
  if (type.told !== "all") return NOT_TOLD;
  if (type.refers === "never" || type.named !== undefined) return null;
  return "the kernel shows sockets by their cookies: nothing opens a socket by its cookie";
}

const NOT_TOLD = "the kernel does not tell what it has in a map of this type";
