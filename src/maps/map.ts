import type { Cells } from "./cells.ts";
import type { Refusal } from "./refusal.ts";

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
}

/** What the machine below is like: the facts that bpf(2) asks it for. Taken once, at start. */
export interface Host {
  readonly possibleCpus: number;
  readonly pageBytes: number;
  readonly memoryBytes: number;
  readonly onlineNodes: readonly number[];
  readonly ifindexes: readonly number[];
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
}

/** What happened to a map's contents, for those who follow: the mirror. `value` null: the element is gone. */
type ElementChanged = (map: MapRecord, key: Buffer, value: Buffer | null) => void;

/** One map, opened for an operation: its record and the cells that hold its elements. */
export interface MapStore {
  readonly map: MapRecord;
  readonly cells: Cells;
  /** Elements present. */
  entryCount(): number;
  setEntryCount(count: number): void;
  readonly changed: ElementChanged;
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
 * what an event says has happened.
 */
export interface MapType {
  /** The checks of BPF_MAP_CREATE that come before token and privilege, and those after. */
  readonly first: (attr: CreateAttr, host: Host) => Refusal | null;
  readonly second: (attr: CreateAttr, host: Host) => Refusal | null;
  /** What the kernel allocates at creation, about: more than the machine's memory is ENOMEM. */
  readonly allocatedBytes: (attr: CreateAttr, host: Host) => number;
  /** Bytes of a value in user space. */
  readonly valueBytes: (map: MapRecord, host: Host) => number;
  readonly lookup: (store: MapStore, key: Buffer) => Buffer | Refusal;
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
  /** Elements in the state's order, after `after` (the last key of an earlier page; null: from the start). */
  readonly elements: (store: MapStore, after: Buffer | null) => Iterable<Element>;
  /** The elements that differ from a map just created: what a mirror has to carry over. */
  readonly stored: (store: MapStore) => Iterable<Element>;
}
