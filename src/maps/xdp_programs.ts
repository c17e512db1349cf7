/**
 * The values of DEVMAP, DEVMAP_HASH and CPUMAP: a number (interface, queue size) and, if value_size is 8, a program.
 * Updates take the program's descriptor, lookups answer its id, and cells have its object id.
 */

import { BPF_PROG_TYPE } from "../abi/bpf.ts";
import { objectAt } from "./fd_object.ts";
import type { MapStore } from "./map.ts";
import type { ProgFacts } from "./object.ts";
import { type Refusal, refuse } from "./refusal.ts";

/** No program. */
const NONE = 0;

/** The object id of the program that a value names; 0: none. EINVAL if it is not loaded for this kind of map. */
export function programIn(store: MapStore, value: Buffer, attachType: number): number | Refusal {
  const fd = value.length < 8 ? NONE : value.readInt32LE(4);
  if (fd <= NONE) return NONE;
  const found = objectAt(store, fd, "prog", "EINVAL");
  if (!("id" in found)) return refuse("EINVAL", found.detail);
  if (found.progType !== BPF_PROG_TYPE.BPF_PROG_TYPE_XDP || found.expectedAttachType !== attachType)
    return refuse("EINVAL", `fd ${fd} is a program of another type or attach type`);
  return found.id;
}

/** The value that a lookup answers for a cell. */
export function shown(store: MapStore, cell: Buffer): Buffer {
  if (store.map.valueSize < 8) return cell.subarray(0, 4);
  const object = cell.readUInt32LE(4);
  const value = Buffer.from(cell);
  value.writeUInt32LE(object === NONE ? NONE : (store.world.object(object) as ProgFacts).progId, 4);
  return value;
}

export function holdProgram(store: MapStore, cell: Buffer): void {
  if (cell.readUInt32LE(4) !== NONE) store.world.holdObject(cell.readUInt32LE(4));
}

export function releaseProgram(store: MapStore, cell: Buffer): void {
  if (cell.readUInt32LE(4) !== NONE) store.world.releaseObject(cell.readUInt32LE(4));
}
