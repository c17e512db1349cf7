import type { MapRecord } from "../maps/map.ts";

/** Who follows what the commands do: the mirror. */
export interface Follower {
  /** `btf`: the blob that describes it; null: nothing does. */
  created(map: MapRecord, btf: Buffer | null): void;
  /** `flags`: BPF_NOEXIST or BPF_EXIST, if the command said so, else 0. */
  changed(map: MapRecord, key: Buffer, value: Buffer | null, flags: number): void;
  frozen(map: MapRecord): void;
  freed(map: MapRecord): void;
  pinned(map: MapRecord, pathname: string): void;
  unpinned(pathname: string): void;
  directoryMade(pathname: string): void;
  directoryRemoved(pathname: string): void;
  /** Nothing holds an object any more. */
  objectGone(id: number): void;
}
