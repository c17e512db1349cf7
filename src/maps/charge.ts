import type { Host, MapSizes, MapType } from "./map.ts";

/** What a map takes of its creator's quotas, in bytes. */
export interface Charge {
  /** Of keys, and of values as user space has them. */
  readonly bytes: number;
  /** Of the kernel's memory, about, whether a kernel map follows or not. */
  readonly kernelBytes: number;
}

/**
 * Charged as the kernel charges a process: where there is room for all elements from the creation on, for all of them then, and for
 * nothing later; elsewhere for those that are there.
 */
export function chargeOf(type: MapType, map: MapSizes, entries: number, host: Host): Charge {
  const each = elementCharge(type, map, host);
  const kernelBytes = type.allocatedBytes(map, host);
  if (type.preallocated(map)) return { bytes: each.bytes * map.maxEntries, kernelBytes };
  return { bytes: each.bytes * entries, kernelBytes: kernelBytes + each.kernelBytes * entries };
}

/** Of an element of a map that is not preallocated. */
export function elementCharge(type: MapType, map: MapSizes, host: Host): Charge {
  return { bytes: map.keySize + type.valueBytes(map, host), kernelBytes: type.elementBytes(map, host) };
}
