import { CREATE_FIELDS, readAttr } from "../abi/attr.ts";
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
 * What creates a map of this definition, with a kernel map of the same shape. Descriptors: of its BTF, of its template; 0
 * where it has none.
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
