import { ERRNO } from "../abi/errno.ts";
import type { ElementChange, MirrorRefusal, MirrorScan, MirrorSource, ScanOrder } from "../engine/ports.ts";
import type { Element, Host, MapRecord } from "../maps/map.ts";
import { mapType } from "../maps/types.ts";
import type { Bpf } from "../native/bpf.ts";
import type { Cpus, MirroredType, References } from "./map_types.ts";

/** A kernel map, with everything that writing to it needs. */
export interface Opened {
  readonly bpf: Bpf;
  readonly refs: References;
  readonly host: Host;
  readonly cpus: Cpus;
  readonly type: MirroredType;
  readonly map: MapRecord;
  readonly fd: number;
}

/** Reads and writes the elements of a kernel map. */
export interface KernelElements {
  /**
   * Writes changes in their order, so that a program never sees a state that the map did not go through. If one is
   * refused, the others are written all the same, unless they depend on it. Returns the first refusal; `failed` is
   * called for each.
   */
  write(changes: readonly ElementChange[], failed?: (change: ElementChange) => void): MirrorRefusal | null;
  /**
   * The kernel's present value of an element in the kernel's form; null: there is none; undefined: the kernel does not
   * show it.
   */
  look(key: Buffer): Buffer | null | undefined;
  /** The value that `look` returns for an element with this value in the ledger (null: no element). */
  shown(value: Buffer | null): Buffer | null;
  scan(source: MirrorSource, first: ScanOrder): MirrorScan;
  /**
   * For a kernel map that cannot be compared: writes the changes that the ledger made while the kernel map did not
   * follow, and nothing else. `elements` are the ledger's present ones; `failed` is called as by `write`.
   */
  catchUp(
    elements: Iterable<Element>,
    changes: readonly WindowChange[],
    failed: (change: ElementChange) => void,
  ): MirrorRefusal | null;
}

/** A change that the ledger made while its kernel map did not follow; null: no element before, or none now. */
export interface WindowChange {
  readonly key: Buffer;
  /** In the form that the ledger shows. */
  readonly before: Buffer | null;
  /** In the form that `put` of the map's type takes. */
  readonly now: Buffer | null;
}

/** For types that only programs fill, or that the kernel does not show. */
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

/** The size of a value in user space, in bytes. */
export function valueBytesOf({ map, host }: Pick<Opened, "map" | "host">): number {
  return mapType(map.type)?.valueBytes(map, host) ?? map.valueSize;
}

/** Whether the kernel does not know the command (EINVAL), or not for this type (ENOTSUPP). */
export function unsupported(ret: number): boolean {
  return ret === -ERRNO.ENOTSUPP || ret === -ERRNO.EINVAL;
}

/** The bytes of a key that a refusal shows. */
const SHOWN_KEY_BYTES = 16;

export function shownKey(key: Buffer): string {
  const hex = key.toString("hex", 0, SHOWN_KEY_BYTES);
  return key.length > SHOWN_KEY_BYTES ? `${hex}... (${key.length} bytes)` : hex;
}
