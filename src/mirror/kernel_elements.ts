import { ERRNO } from "../abi/errno.ts";
import type { ElementChange, MirrorRefusal, MirrorScan, MirrorSource, ScanOrder } from "../engine/ports.ts";
import type { Element, Host, MapRecord } from "../maps/map.ts";
import { mapType } from "../maps/types.ts";
import type { Bpf } from "../native/bpf.ts";
import type { Cpus, MirroredType, References } from "./map_types.ts";

/** A kernel map, and what there is to know for writing to it. */
export interface Opened {
  readonly bpf: Bpf;
  readonly refs: References;
  readonly host: Host;
  readonly cpus: Cpus;
  readonly type: MirroredType;
  readonly map: MapRecord;
  readonly fd: number;
}

/** The elements of a kernel map. */
export interface KernelElements {
  /**
   * Carries changes, in their order: a program never sees a state that the map did not go through. A refused one does not
   * keep the rest from being written, unless they build upon it; the first refusal is given, `failed` is told of each.
   */
  write(changes: readonly ElementChange[], failed?: (change: ElementChange) => void): MirrorRefusal | null;
  /** The kernel's value of an element now, as it shows it; null: it has none; undefined: it does not tell. */
  look(key: Buffer): Buffer | null | undefined;
  /** What `look` gives for an element that the ledger shows with this value (null: has not). */
  shown(value: Buffer | null): Buffer | null;
  scan(source: MirrorSource, first: ScanOrder): MirrorScan;
  /**
   * Of a kernel map that cannot be compared: writes what the ledger changed since the kernel map had all of it, and nothing
   * else. `elements` are the ledger's now; `failed` as of write.
   */
  catchUp(
    elements: Iterable<Element>,
    changes: readonly WindowChange[],
    failed: (change: ElementChange) => void,
  ): MirrorRefusal | null;
}

/** An element that the ledger changed while its kernel map did not follow; null: it was, or is, not there. */
export interface WindowChange {
  readonly key: Buffer;
  /** As the ledger showed it. */
  readonly before: Buffer | null;
  /** As `put` of its map type takes it. */
  readonly now: Buffer | null;
}

/** What only programs fill, or nothing shows. */
export function unreadable(untold: string): Pick<KernelElements, "look" | "shown" | "scan"> {
  return {
    look: () => undefined,
    shown: (value) => value,
    // biome-ignore lint/correctness/useYield: it answers without a piece
    *scan() {
      return { untold };
    },
  };
}

/** Bytes of a value in user space. */
export function valueBytesOf({ map, host }: Pick<Opened, "map" | "host">): number {
  return mapType(map.type)?.valueBytes(map, host) ?? map.valueSize;
}

/** The command is unknown to this kernel (EINVAL), or it is, but not for this type. */
export function unsupported(ret: number): boolean {
  return ret === -ERRNO.ENOTSUPP || ret === -ERRNO.EINVAL;
}

/** Bytes of a key that a refusal shows. */
const SHOWN_KEY_BYTES = 16;

export function shownKey(key: Buffer): string {
  const hex = key.toString("hex", 0, SHOWN_KEY_BYTES);
  return key.length > SHOWN_KEY_BYTES ? `${hex}... (${key.length} bytes)` : hex;
}
