/** The interface of whatever follows the commands' changes. */

import type { MapRecord } from "../maps/map.ts";

/** Receives the changes that commands make: the mirror, or nobody. */
export interface Follower {
  /** `btf`: the blob that describes the map's keys and values; null: none does. */
  created(map: MapRecord, btf: Buffer | null): void;
  /** `flags`: BPF_NOEXIST or BPF_EXIST if the command had it, else 0. */
  changed(map: MapRecord, key: Buffer, value: Buffer | null, flags: number): void;
  frozen(map: MapRecord): void;
  freed(map: MapRecord): void;
  pinned(map: MapRecord, pathname: string): void;
  unpinned(pathname: string): void;
  directoryMade(pathname: string): void;
  directoryRemoved(pathname: string): void;
  /** The last reference to an object is gone. */
  objectGone(id: number): void;
}
