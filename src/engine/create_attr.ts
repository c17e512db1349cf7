/**
 * The attr of BPF_MAP_CREATE for a map that exists or has existed elsewhere: adoptions and restores create it again.
 */

import { CREATE_FIELDS, readAttr } from "../abi/attr.ts";
import { OBJ_NAME_LEN } from "../abi/bpf.ts";
import { mirrorShapeOf } from "../maps/facts.ts";
import type { CreateAttr, MapRecord } from "../maps/map.ts";

/** The fields of a map's record that its creation has set. */
type Definition = Pick<
  MapRecord,
  | "type"
  | "keySize"
  | "valueSize"
  | "maxEntries"
  | "mapFlags"
  | "name"
  | "mapExtra"
  | "numaNode"
  | "btf"
  | "adopted"
  | "mirrorShape"
>;

const NOTHING = readAttr(CREATE_FIELDS, ({ kind }) => {
  switch (kind) {
    case "u64":
      return 0n;
    case "char16":
      return Buffer.alloc(OBJ_NAME_LEN);
    case "pointer":
      return null;
    default:
      return 0;
  }
});

/**
 * The attr that creates a map of this definition, and a kernel map of the same shape. `btfFd`, `innerMapFd`:
 * descriptors of its BTF and of its inner map's template; 0: it has none.
 */
export function createAttr(map: Definition, btfFd: number, innerMapFd: number): CreateAttr {
  const mapName = Buffer.alloc(OBJ_NAME_LEN);
  mapName.write(map.name, "latin1");
  const mirrorShape = mirrorShapeOf(map);
  return {
    ...NOTHING,
    mapType: map.type,
    keySize: map.keySize,
    valueSize: map.valueSize,
    maxEntries: map.maxEntries,
    mapFlags: map.mapFlags,
    innerMapFd,
    numaNode: Math.max(map.numaNode, 0),
    mapName,
    btfFd,
    btfKeyTypeId: map.btf?.keyTypeId ?? 0,
    btfValueTypeId: map.btf?.valueTypeId ?? 0,
    mapExtra: map.mapExtra,
    ...(mirrorShape === null ? {} : { mirrorShape }),
  };
}
