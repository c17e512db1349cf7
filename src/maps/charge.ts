/** The sizes that quotas of bytes and kernel memory are charged by. */

import type { Host, MapSizes, MapType } from "./map.ts";

/** The bytes that a map is charged to its creator's quotas. */
export interface Charge {
  /** Of keys, and of values in the size that user space sees. */
  readonly bytes: number;
  /** Of the kernel's memory, approximately, whether or not the map is mirrored. */
  readonly kernelBytes: number;
}

/**
 * The charge of a map, by the kernel's rule: a preallocated map is charged for max_entries elements when it is created
 * and never more; another map for the elements that it has.
 */
export function chargeOf(type: MapType, map: MapSizes, entries: number, host: Host): Charge {
  const each = elementCharge(type, map, host);
  const kernelBytes = type.allocatedBytes(map, host);
  if (type.preallocated(map)) return { bytes: each.bytes * map.maxEntries, kernelBytes };
  return { bytes: each.bytes * entries, kernelBytes: kernelBytes + each.kernelBytes * entries };
}

/** The charge of one element of a map that is not preallocated. */
export function elementCharge(type: MapType, map: MapSizes, host: Host): Charge {
  return { bytes: map.keySize + type.valueBytes(map, host), kernelBytes: type.elementBytes(map, host) };
}
