/**
 * The interfaces between map types and the rest: a type's row (MapType), a map's record, an open map (MapStore), and
 * the surroundings that a type can see (World).
 */

import type { AttrOf, CREATE_FIELDS } from "../abi/attr.ts";
import type { DRIFT_POLICIES, MIRROR_SHAPES, ON_REPLACE } from "../abi/service.ts";
import type { CellKey, Cells } from "./cells.ts";
import type { MapFacts, SpecialKind } from "./map_facts.ts";
import type { ObjectRecord } from "./object.ts";
import type { Refusal } from "./refusal.ts";

/** The sizes of a map: fields that a creation's attr and a map's record have in common. */
export type MapSizes = Pick<MapRecord, "keySize" | "valueSize" | "maxEntries" | "mapFlags" | "mapExtra">;

/** BPF_MAP_CREATE's part of union bpf_attr, as the kernel reads it, and fields that bpf(2) has not. Sizes are in bytes. */
export interface CreateAttr extends AttrOf<typeof CREATE_FIELDS> {
  /** The kernel's id of the existing map that this map adopts; left out: a new kernel map is created. */
  readonly adopted?: number;
  /** The path on the host's bpffs by which the kernel map was adopted; left out: it was adopted by id. */
  readonly adoptedPin?: string;
  /** The reaction if that pin names another kernel map. */
  readonly onReplace?: OnReplace;
  /** Only of LRU maps; left out: the event was recorded by a release without shapes. */
  readonly mirrorShape?: MirrorShape;
}

/** The reaction if the pin of an adopted map names another kernel map: follow that one, or report it. */
export type OnReplace = (typeof ON_REPLACE)[number];

export type MirrorShape = (typeof MIRROR_SHAPES)[number];

/** The facts of the machine that bpf(2) depends on, read once at the start. */
export interface Host {
  readonly possibleCpus: number;
  readonly pageBytes: number;
  readonly memoryBytes: number;
  readonly onlineNodes: readonly number[];
  readonly ifindexes: readonly number[];
  /** The service's own limit on the bytes of BTF; left out: the kernel's applies. */
  readonly btfBytesMax?: number;
  /** The service's own limit on the bytes of a new map's value, for all CPUs together; left out: none. */
  readonly valueBytesMax?: number;
  /**
   * Names of the kernel's structs that have no destructor, as far as the kernel's BTF can be read: a kptr must not
   * point to one.
   */
  readonly undestroyed?: () => ReadonlySet<string>;
}

/** A map as it is recorded at its creation, with the later effects of FREEZE, BPF_OBJ_PIN and the mirror. */
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
  /** Created with excl_prog_hash: the map can be neither a template (inner_map_fd) nor an inner map. */
  readonly exclusive: boolean;
  /** Of a map of maps: the properties that inner maps must agree with. */
  readonly inner: InnerShape | null;
  /** The BTF types of keys and values; null: none. */
  readonly btf: MapBtf | null;
  /** The special fields of a value, which only programs access, by ascending offset. */
  readonly special: readonly SpecialField[];
  /**
   * Of a BPF_MAP_TYPE_PROG_ARRAY: the type of its first program, which all others must have; null: none was put in yet.
   */
  readonly owner: ProgOwner | null;
  /**
   * The drift policy that was set for this map; left out: the default, repair for the mirror's own kernel maps and
   * report for adopted ones.
   */
  readonly drift?: DriftPolicy;
  /** The kernel's id of the kernel map that was adopted: another program had created it. */
  readonly adopted?: number;
  readonly adoptedPin?: string;
  readonly onReplace?: OnReplace;
  /** The adoption was ended: the map has no kernel map, and gets none. */
  readonly released?: true;
  /**
   * The log took over its directory of pins, and no operator has decided yet whose values are right: until then the
   * drift policy is report.
   */
  readonly undecided?: true;
  /**
   * The caller who created the map; left out: the owner, because the state was archived by a release that kept no
   * creators.
   */
  readonly creator?: string;
  /**
   * The shape of an LRU map's kernel map. Left out for other maps, and in logs without shapes: read it by
   * `mirrorShapeOf`.
   */
  readonly mirrorShape?: MirrorShape;
}

export interface DriftPolicy {
  readonly policy: (typeof DRIFT_POLICIES)[number];
  /** Milliseconds between two comparisons; 0: none at intervals. */
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

/** A field of struct btf_record; offset and size in bytes. Updates do not write it, and lookups show zeros. */
export interface SpecialField {
  readonly kind: SpecialKind;
  readonly offset: number;
  readonly size: number;
}

/** struct bpf_map_owner, reduced to the fields in which the ledger's programs can differ. */
export interface ProgOwner {
  readonly progType: number;
  readonly expectedAttachType: number;
}

/** A BTF type without modifiers and typedefs. `size` in bytes. */
export interface BtfType {
  readonly id: number;
  readonly kind: number;
  readonly size: number;
  /** The width of an integer in bits; 0 for other types. */
  readonly bits: number;
  readonly members: readonly { readonly type: BtfType | undefined; readonly offsetBits: number }[];
}

/** map_check_btf of struct bpf_map_ops. `key` undefined: there is no key type. */
type CheckBtf = (attr: CreateAttr, key: BtfType | undefined, value: BtfType) => Refusal | null;

/**
 * An open file. It refers to a map or to an object; the other id is 0. Duplicates of a descriptor have the same `file`.
 */
export interface OpenFile {
  readonly file: number;
  readonly map: number;
  readonly object: number;
}

/** A map type's access to other maps, to descriptors and to objects. */
export interface World {
  /** undefined: not open. */
  fd(session: number, fd: number): OpenFile | undefined;
  map(id: number): MapRecord | undefined;
  /** The facts of the type of a map. */
  factsOf(map: Pick<MapRecord, "type">): MapFacts;
  object(id: number): ObjectRecord | undefined;
  /** References: a map or an object is freed when its last reference is released. */
  hold(map: number): void;
  release(map: number): void;
  holdObject(object: number): void;
  releaseObject(object: number): void;
  /** Ties an element to an object: when the object ends, the map type's `remove` is called with `key`. */
  tie(object: number, map: number, key: Buffer): void;
  untie(object: number, map: number, key: Buffer): void;
  /** Whether an object is tied to an element of any map of this type. */
  isTied(object: number, mapType: number): boolean;
  hasInterface(ifindex: number): boolean;
  /** Records the type of the map's first program. */
  own(map: number, owner: ProgOwner): void;
  /** The next number in the order of uses; it is larger than all earlier ones. */
  nextUse(): number;
}

/** The session in which a map is created: inner_map_fd and other descriptors are looked up in it. */
export interface Creator {
  readonly world: World;
  readonly session: number;
}

/** Reports a changed element to the mirror. `value` null: the element was deleted. */
type ElementChanged = (map: MapRecord, key: Buffer, value: Buffer | null) => void;

/** A map opened for one operation: its record and the cells with its elements. */
export interface MapStore {
  readonly map: MapRecord;
  readonly cells: Cells;
  readonly host: Host;
  readonly world: World;
  /** The session whose descriptors are in keys and values; 0: the operator's view, which has none. */
  readonly session: number;
  /** The open file by which the map was reached; 0: none. */
  readonly file: number;
  /** The number of elements; of an array, of those ever written. */
  entryCount(): number;
  setEntryCount(count: number): void;
  /** ENOMEM if another element would exceed a quota of the map's creator. Call it before a new element is stored. */
  growth(): Refusal | null;
  readonly changed: ElementChanged;
  /**
   * Notes in the event the key and value of the stored or removed element, if they differ from those that the command
   * gives. Example: a descriptor means nothing in a replay, so the event has the id of its object. `value`: in the form
   * that the type's `put` takes; null: it is the one that the command gives.
   */
  stored(key: Buffer, value: Buffer | null): void;
  /** Notes in the event that an update has emptied the slot. */
  emptied(key: Buffer): void;
  /** Notes in the event an element that was evicted. */
  evicted(key: Buffer): void;
  /**
   * Notes in the event the key that the element had until now, if it differs from the given key: a trie stored 10.1.2.3/8,
   * and 10.0.0.0/8 is given.
   */
  knownAs(key: Buffer): void;
}

/** An element as bpf(2) shows it. */
export interface Element {
  readonly key: Buffer;
  readonly value: Buffer;
}

/** The result of a lookup batch: whole buckets of a hash, or the next keys of an array or trie. */
export interface BatchPage {
  readonly elements: readonly Element[];
  /**
   * The number of elements at the end of each bucket: the kernel deletes, and copies to the caller, one bucket after
   * the other. Empty for types without LOOKUP_AND_DELETE_BATCH.
   */
  readonly bucketEnds: readonly number[];
  /**
   * The position from which the next call continues: a u32 bucket number, or the last key; null if nothing was visited.
   */
  readonly position: Buffer | null;
  /** ENOENT at the end of the map, ENOSPC if the first bucket does not fit, null otherwise. */
  readonly end: Refusal | null;
}

/** The length of a position, which takes the place of a key in pages of maps without keys. */
export const POSITION_BYTES = 8;

/** A type's walk for BPF_MAP_LOOKUP_BATCH and _LOOKUP_AND_DELETE_BATCH. */
export interface BatchWalk {
  /** Whether `flags` (not `elem_flags`) must be 0, as the hash family requires. */
  readonly checksFlags: boolean;
  /** The bytes of in_batch and out_batch. */
  positionBytes(map: MapRecord): number;
  /** Whether the position is written although no element was delivered, as hash maps do. */
  readonly positionAlways: boolean;
  /** Reads at most `count` elements from `position` (null: from the start). */
  read(store: MapStore, position: Buffer | null, count: number): BatchPage | Refusal;
}

/**
 * A map type. Operations get well-formed arguments only: the descriptor's mode, frozen, BPF_F_LOCK and the lengths of
 * keys and values were checked before. An operation that refuses has changed nothing.
 *
 * `put` and `remove` are the effects of `update`, `delete` and `lookupAndDelete` without their checks. Replay calls them with the
 * elements that the event records: first `remove` for those that were `evicted`, then `put` or `remove` for the element
 * that was `stored`, or that the command named.
 */
export interface MapType {
  readonly facts: MapFacts;
  /** The checks of BPF_MAP_CREATE: `allocCheck` before the check of token and privilege, `alloc` after it. */
  readonly allocCheck: (attr: CreateAttr, host: Host) => Refusal | null;
  readonly alloc: (attr: CreateAttr, host: Host, creator: Creator) => Refusal | null;
  /** Fields of the map's record that differ from the creation's attr. */
  readonly recorded: (attr: CreateAttr, host: Host, creator: Creator) => Partial<MapRecord>;
  /** Checks the BTF of keys and values, after their sizes were checked; null: the type accepts any. */
  readonly checkBtf: CheckBtf | null;
  /**
   * The bytes that the kernel allocates when the map is created, approximately as map_mem_usage of struct bpf_map_ops.
   * More than the machine's memory is ENOMEM.
   */
  readonly allocatedBytes: (map: MapSizes, host: Host) => number;
  /** Whether memory for max_entries elements is allocated when the map is created. */
  readonly preallocated: (map: MapSizes) => boolean;
  /** The bytes that the kernel allocates for one element, approximately, if they are not preallocated. */
  readonly elementBytes: (map: MapSizes, host: Host) => number;
  /** The bytes of a value in user space. */
  readonly valueBytes: (map: MapSizes, host: Host) => number;
  /** `value`: the value to look up; given only if the type's facts have `asks`. */
  readonly lookup: (store: MapStore, key: Buffer, value?: Buffer) => Buffer | Refusal;
  readonly update: (store: MapStore, key: Buffer, value: Buffer, flags: bigint) => Refusal | null;
  readonly delete: (store: MapStore, key: Buffer) => Refusal | null;
  /** `key` null: the first key. */
  readonly nextKey: (store: MapStore, key: Buffer | null) => Buffer | Refusal;
  /** BPF_MAP_LOOKUP_AND_DELETE_ELEM. */
  readonly lookupAndDelete: (store: MapStore, key: Buffer) => Buffer | Refusal;
  readonly batch: {
    readonly lookup: BatchWalk | Refusal;
    readonly lookupAndDelete: BatchWalk | Refusal;
    readonly update: Refusal | null;
    readonly delete: Refusal | null;
  };
  readonly put: (store: MapStore, key: Buffer, value: Buffer) => void;
  readonly remove: (store: MapStore, key: Buffer) => void;
  /**
   * map_release of struct bpf_map_ops, called when the last descriptor of an open file was closed; null: it does
   * nothing.
   */
  readonly release: ((store: MapStore, file: number) => void) | null;
  /**
   * map_free: releases the references of one `stored` element of a freed map; null: elements have none. The map's cells
   * are reclaimed later.
   */
  readonly free: ((store: MapStore, element: Element) => void) | null;
  /**
   * The key of the cell that has, or would have, the element with this key; for maps without keys, with this position.
   */
  readonly cellOf: (map: MapRecord, key: Buffer) => CellKey;
  /**
   * The element in a cell, as pages of elements show it. If lookups are refused for good, the value is the id of the
   * object. In a map without keys, the key is the element's position (POSITION_BYTES). `bytes` undefined: there is no
   * such cell. null: there is no element.
   */
  readonly element: (store: MapStore, cell: CellKey, bytes: Buffer | undefined) => Element | null;
  /**
   * The elements in which the map differs from a newly created one, with values as `put` takes them: the mirror copies
   * these to a new kernel map.
   */
  readonly stored: (store: MapStore) => Iterable<Element>;
}
