import { OBJ_NAME_LEN } from "../abi/bpf.ts";
import { mirrorShapeOf } from "../maps/facts.ts";
import type { CreateAttr, MapRecord } from "../maps/map.ts";

/** What of a map's record its creation has said. */
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

/**
 * What creates a map of this definition, with a kernel map of the same shape. Descriptors: of its BTF, of its template; 0
 * where it has none.
 */
export function createAttr(map: Definition, btfFd: number, innerMapFd: number): CreateAttr {
  const mapName = Buffer.alloc(OBJ_NAME_LEN);
  mapName.write(map.name, "latin1");
  const mirrorShape = mirrorShapeOf(map);
  return {
    mapType: map.type,
    keySize: map.keySize,
    valueSize: map.valueSize,
    maxEntries: map.maxEntries,
    mapFlags: map.mapFlags,
    innerMapFd,
    numaNode: Math.max(map.numaNode, 0),
    mapName,
    mapIfindex: 0,
    btfFd,
    btfKeyTypeId: map.btf?.keyTypeId ?? 0,
    btfValueTypeId: map.btf?.valueTypeId ?? 0,
    btfVmlinuxValueTypeId: 0,
    mapExtra: map.mapExtra,
    valueTypeBtfObjFd: 0,
    mapTokenFd: 0,
    exclProgHash: null,
    exclProgHashSize: 0,
    ...(mirrorShape === null ? {} : { mirrorShape }),
  };
}
