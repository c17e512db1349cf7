import type { DRIFT_POLICIES, MIRROR_SHAPES, ON_REPLACE } from "../abi/service.ts";
import type { CellKey, Cells } from "./cells.ts";
import type { MapFacts, SpecialKind } from "./map_facts.ts";
import type { ObjectRecord } from "./object.ts";
import type { Refusal } from "./refusal.ts";

/** How large a map is: of an attr, or a record. */
export type MapSizes = Pick<MapRecord, "keySize" | "valueSize" | "maxEntries" | "mapFlags" | "mapExtra">;

/** BPF_MAP_CREATE's part of union bpf_attr, as the kernel would read it. Sizes in bytes. */
export interface CreateAttr {
  readonly mapType: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly mapFlags: number;
  readonly innerMapFd: number;
  readonly numaNode: number;
  /** The 16 bytes of `map_name`. */
  readonly mapName: Buffer;
  readonly mapIfindex: number;
  readonly btfFd: number;
  readonly btfKeyTypeId: number;
  readonly btfValueTypeId: number;
  readonly btfVmlinuxValueTypeId: number;
  readonly mapExtra: bigint;
  readonly valueTypeBtfObjFd: number;
  readonly mapTokenFd: number;
  /** null is the null pointer. */
  readonly exclProgHash: Buffer | null;
  readonly exclProgHashSize: number;
  /** The kernel's id of the map that was there already, and becomes this one's; left out: a new one is made. */
  readonly adopted?: number;
  /** The path on the host's bpffs by which it was adopted; left out: it was adopted by its kernel id. */
  readonly adoptedPin?: string;
  /** What is done where that pin names another kernel map. */
  readonly onReplace?: OnReplace;
  /** Of an LRU map alone; left out: the event is of a log that has no shapes. */
  readonly mirrorShape?: MirrorShape;
}

/** What is done where the pin of an adopted map names another kernel map: the map follows it, or it is told. */
export type OnReplace = (typeof ON_REPLACE)[number];

export type MirrorShape = (typeof MIRROR_SHAPES)[number];

/** What the machine below is like: the facts that bpf(2) asks it for. Taken once, at start. */
export interface Host {
  readonly possibleCpus: number;
  readonly pageBytes: number;
  readonly memoryBytes: number;
  readonly onlineNodes: readonly number[];
  readonly ifindexes: readonly number[];
  /** Most bytes of BTF that are loaded, where the service has a bound below the kernel's. */
  readonly btfBytesMax?: number;
  /** Most bytes that a value of a new map may have, those of all CPUs together, where the service has a bound. */
  readonly valueBytesMax?: number;
  /** Names of structs of the kernel's own that it cannot destroy, as far as its BTF can be read: no `kptr` is to one. */
  readonly undestroyed?: () => ReadonlySet<string>;
}

/** A map as the kernel records it at creation, plus what FREEZE and BPF_OBJ_PIN change. */
export interface MapRecord {
  readonly id: number;
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  /** As `struct bpf_map_info` shows them: without RDONLY, WRONLY and TOKEN_FD. */
  readonly mapFlags: number;
  /** Up to the first NUL, one character a byte. */
  readonly name: string;
  readonly mapExtra: bigint;
  readonly numaNode: number;
  readonly frozen: boolean;
  /** Nobody's fd may be its template or its outer map: it was created with excl_prog_hash. */
  readonly exclusive: boolean;
  /** Of a map of maps: what the inner maps have to agree with. */
  readonly inner: InnerShape | null;
  /** What describes its keys and values, if anything does. */
  readonly btf: MapBtf | null;
  /** Fields of a value that only programs touch, ascending. */
  readonly special: readonly SpecialField[];
  /** Of a BPF_MAP_TYPE_PROG_ARRAY: what its first program was like, and all others must be. */
  readonly owner: ProgOwner | null;
  /** What is done where its kernel map is found to differ; left out: nobody looks. */
  readonly drift?: DriftPolicy;
  /** The kernel's id of what was there already, made by some other program, and became its kernel map. */
  readonly adopted?: number;
  readonly adoptedPin?: string;
  readonly onReplace?: OnReplace;
  /** Its adoption was ended: it has no kernel map, and none is made. */
  readonly released?: true;
  /** Its log took over the directory of pins, and nobody has decided yet whose values are right: policy `report` until then. */
  readonly undecided?: true;
  /** The caller who made it; left out: its state was archived by a release that kept none, and it is the owner's. */
  readonly creator?: string;
  /** Of an LRU map alone: the shape of its kernel map. Left out if its creation is of a log that has no shapes: mirrorShapeOf. */
  readonly mirrorShape?: MirrorShape;
}

export interface DriftPolicy {
  readonly policy: (typeof DRIFT_POLICIES)[number];
  /** Milliseconds between two comparisons; 0: none is made. */
  readonly intervalMs: number;
}

/** struct bpf_map's inner_map_meta: the template as it was when the outer map was created. */
export type InnerShape = Pick<
  MapRecord,
  "type" | "keySize" | "valueSize" | "maxEntries" | "mapFlags" | "special" | "mirrorShape"
>;

export interface MapBtf {
  readonly btfId: number;
  readonly keyTypeId: number;
  readonly valueTypeId: number;
}

/** A field of struct btf_record, in bytes. Nothing of it is copied in, and it reads as zeros. */
export interface SpecialField {
  readonly kind: SpecialKind;
  readonly offset: number;
  readonly size: number;
}

/** struct bpf_map_owner, as far as programs here can differ in it. */
export interface ProgOwner {
  readonly progType: number;
  readonly expectedAttachType: number;
}

/** A type of BTF, modifiers and typedefs resolved. `size` in bytes. */
export interface BtfType {
  readonly id: number;
  readonly kind: number;
  readonly size: number;
  /** Of an integer: its bits; of others 0. */
  readonly bits: number;
  readonly members: readonly { readonly type: BtfType | undefined; readonly offsetBits: number }[];
}

/** map_check_btf of struct bpf_map_ops. `key` undefined: there is no key type. */
type CheckBtf = (attr: CreateAttr, key: BtfType | undefined, value: BtfType) => Refusal | null;

/** What a descriptor refers to: a map or an object, the other is 0. Duplicates share `file`. */
export interface OpenFile {
  readonly file: number;
  readonly map: number;
  readonly object: number;
}

/** What maps see of each other, of descriptors and of objects. */
export interface World {
  /** undefined: not open. */
  fd(session: number, fd: number): OpenFile | undefined;
  map(id: number): MapRecord | undefined;
  /** Of the type of a map. */
  factsOf(map: Pick<MapRecord, "type">): MapFacts;
  object(id: number): ObjectRecord | undefined;
  /** A map or an object lives as long as anything holds it. */
  hold(map: number): void;
  release(map: number): void;
  holdObject(object: number): void;
  releaseObject(object: number): void;
  /** An element that goes when an object does: `remove` is called with `key` then. */
  tie(object: number, map: number, key: Buffer): void;
  untie(object: number, map: number, key: Buffer): void;
  /** Whether an object is tied to any element of a map of this type. */
  isTied(object: number, mapType: number): boolean;
  /** Whether there is a network interface with this index. */
  hasInterface(ifindex: number): boolean;
  /** For the map's record: what its first program was like. */
  own(map: number, owner: ProgOwner): void;
  /** A number that was never given before and is larger than all that were: the order of uses. */
  nextUse(): number;
}

/** Who creates a map: where inner_map_fd is looked up. */
export interface Creator {
  readonly world: World;
  readonly session: number;
}

/** What happened to a map's contents, for those who follow: the mirror. `value` null: the element is gone. */
type ElementChanged = (map: MapRecord, key: Buffer, value: Buffer | null) => void;

/** One map, opened for an operation: its record and the cells that hold its elements. */
export interface MapStore {
  readonly map: MapRecord;
  readonly cells: Cells;
  readonly host: Host;
  readonly world: World;
  /** Whose descriptors keys and values name; 0: the operator's view, which has none. */
  readonly session: number;
  /** The open file that the map was reached through, 0 for none. */
  readonly file: number;
  /** Elements present; of an array, those that were ever written. */
  entryCount(): number;
  setEntryCount(count: number): void;
  /** ENOMEM: one element more would be over a quota of the map's creator. To be asked before an element that was not there. */
  growth(): Refusal | null;
  readonly changed: ElementChanged;
  /**
   * For the event: what a decision has stored or removed, where that is not the key and value given. A descriptor, say,
   * means nothing to whoever replays the event; the object that it referred to does. `value` is as `put` took it, null where
   * it is the one given.
   */
  stored(key: Buffer, value: Buffer | null): void;
  /** For the event: an update has emptied the slot. */
  emptied(key: Buffer): void;
  /** For the event: an element that had to make room. */
  evicted(key: Buffer): void;
  /** For the event: the element of this key was kept under another, which means the same. */
  knownAs(key: Buffer): void;
}

/** An element as bpf(2) shows it. */
export interface Element {
  readonly key: Buffer;
  readonly value: Buffer;
}

/** What a lookup batch found: whole buckets of a hash, or the next keys of an array or trie. */
export interface BatchPage {
  readonly elements: readonly Element[];
  /**
   * How many of them there are at the end of each bucket: the kernel takes out, and copies to the caller, one bucket
   * after the other. Where nothing can be taken out there are no buckets to tell.
   */
  readonly bucketEnds: readonly number[];
  /** Where the next call goes on: a u32 bucket number, or the last key; null if nothing was visited. */
  readonly position: Buffer | null;
  /** ENOENT at the end of the map, ENOSPC where the first bucket does not fit, null otherwise. */
  readonly end: Refusal | null;
}

/** Bytes that stand for a key in pages of maps that have none. */
export const POSITION_BYTES = 8;

/** How a type walks itself in BPF_MAP_LOOKUP_BATCH and _LOOKUP_AND_DELETE_BATCH. */
export interface BatchWalk {
  /** `flags` (not `elem_flags`) must be 0: only the hash family insists. */
  readonly checksFlags: boolean;
  /** Bytes of in_batch and out_batch. */
  positionBytes(map: MapRecord): number;
  /** hash maps write the position even when nothing was delivered. */
  readonly positionAlways: boolean;
  /** At most `count` elements from `position` (null: the start). */
  read(store: MapStore, position: Buffer | null, count: number): BatchPage | Refusal;
}

/**
 * What a map type is. Callers hand in well-formed operations only: the fd's mode, frozen, BPF_F_LOCK, and the lengths of
 * keys and values have been checked. Operations that refuse have changed nothing.
 *
 * `put` and `remove` are the effects of `update`, `delete` and `take` alone, without a decision: replay calls them with
 * what an event says has happened (what was `stored`, where that was told; what was `evicted` is removed first).
 */
export interface MapType {
  readonly facts: MapFacts;
  /** The checks of BPF_MAP_CREATE that come before token and privilege, and those after. */
  readonly first: (attr: CreateAttr, host: Host) => Refusal | null;
  readonly second: (attr: CreateAttr, host: Host, creator: Creator) => Refusal | null;
  /** What the record has other than the attr asked for. */
  readonly recorded: (attr: CreateAttr, host: Host, creator: Creator) => Partial<MapRecord>;
  /** What it says of BTF for its keys and values, once their sizes have been checked; null: it is not asked. */
  readonly checkBtf: CheckBtf | null;
  /** Bytes that the kernel allocates at creation, about, as map_mem_usage of struct bpf_map_ops has them: more than the machine's memory is ENOMEM. */
  readonly allocatedBytes: (map: MapSizes, host: Host) => number;
  /** Whether there is room for max_entries elements from the creation on. */
  readonly preallocated: (map: MapSizes) => boolean;
  /** Bytes that the kernel allocates for an element, about, where its room is not preallocated. */
  readonly elementBytes: (map: MapSizes, host: Host) => number;
  /** Bytes of a value in user space. */
  readonly valueBytes: (map: MapSizes, host: Host) => number;
  /** `value` is what is asked for, and only there where the type's facts say `asks`. */
  readonly lookup: (store: MapStore, key: Buffer, value?: Buffer) => Buffer | Refusal;
  readonly update: (store: MapStore, key: Buffer, value: Buffer, flags: bigint) => Refusal | null;
  readonly delete: (store: MapStore, key: Buffer) => Refusal | null;
  /** `key` null: the first key. */
  readonly nextKey: (store: MapStore, key: Buffer | null) => Buffer | Refusal;
  /** BPF_MAP_LOOKUP_AND_DELETE_ELEM. */
  readonly take: (store: MapStore, key: Buffer) => Buffer | Refusal;
  readonly batch: {
    readonly lookup: BatchWalk | Refusal;
    readonly lookupAndDelete: BatchWalk | Refusal;
    readonly update: Refusal | null;
    readonly delete: Refusal | null;
  };
  readonly put: (store: MapStore, key: Buffer, value: Buffer) => void;
  readonly remove: (store: MapStore, key: Buffer) => void;
  /** map_release of struct bpf_map_ops, where it does anything: the last descriptor of an open file has been closed. */
  readonly fileClosed: ((store: MapStore, file: number) => void) | null;
  /** map_free, where elements hold anything: what one that is `stored` lets go of. Their cells are reclaimed later. */
  readonly freed: ((store: MapStore, element: Element) => void) | null;
  /** Where the element with this key stands among the map's cells, or would. Maps without keys: with this position. */
  readonly cellOf: (map: MapRecord, key: Buffer) => CellKey;
  /**
   * The element that a cell holds, as it is shown: where lookups are refused for good, the value is the id of the object.
   * Elements of a map without keys go by POSITION_BYTES of their place. `bytes` undefined: there is no such cell. null: no
   * element is there.
   */
  readonly element: (store: MapStore, cell: CellKey, bytes: Buffer | undefined) => Element | null;
  /** The elements that differ from a map just created, with values as `put` takes them: what a mirror has to carry over. */
  readonly stored: (store: MapStore) => Iterable<Element>;
}
