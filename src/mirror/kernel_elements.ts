import { ERRNO } from "../abi/errno.ts";
import type { ElementChange, MirrorRefusal, MirrorScan, MirrorSource } from "../engine/ports.ts";
import type { Element, Host, MapRecord } from "../maps/map.ts";
import { mapType } from "../maps/types.ts";
import type { Bpf } from "./bpf.ts";
import type { Cpus, MirroredType, References } from "./mirrored.ts";

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

/** The elements of a kernel map. Refusals: what is refused does not keep the rest from being written; the first is given. */
export interface KernelElements {
  /** Carries changes, in their order: a program never sees a state that the map did not go through. */
  write(changes: readonly ElementChange[]): MirrorRefusal | null;
  /** Makes what programs may be using equal to the elements of the state. */
  repair(elements: Iterable<Element>): MirrorRefusal | null;
  scan(source: MirrorSource): MirrorScan;
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
