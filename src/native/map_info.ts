import { MAP_INFO, OBJ_NAME_LEN } from "../abi/bpf.ts";
import type { MapBtf, MapRecord } from "../maps/map.ts";

/** The fields of a map's record that BPF_MAP_CREATE takes. */
export type MapShape = Pick<
  MapRecord,
  "type" | "keySize" | "valueSize" | "maxEntries" | "mapFlags" | "name" | "mapExtra" | "numaNode"
>;

/** The fields that BPF_OBJ_GET_INFO_BY_FD reports of a map; numa_node is not among them. */
export type MapInfo = Omit<MapShape, "numaNode"> & {
  readonly id: number;
  /** The BTF types of keys and values, with the kernel's id of the BTF. */
  readonly btf: MapBtf | null;
};

/** Parses a struct bpf_map_info. */
export function readInfo(info: Buffer): MapInfo {
  const name = info.toString("latin1", MAP_INFO.name, MAP_INFO.name + OBJ_NAME_LEN);
  const btfId = info.readUInt32LE(MAP_INFO.btf_id);
  const keyTypeId = info.readUInt32LE(MAP_INFO.btf_key_type_id);
  const valueTypeId = info.readUInt32LE(MAP_INFO.btf_value_type_id);
  return {
    type: info.readUInt32LE(MAP_INFO.type),
    id: info.readUInt32LE(MAP_INFO.id),
    keySize: info.readUInt32LE(MAP_INFO.key_size),
    valueSize: info.readUInt32LE(MAP_INFO.value_size),
    maxEntries: info.readUInt32LE(MAP_INFO.max_entries),
    mapFlags: info.readUInt32LE(MAP_INFO.map_flags),
    name: name.slice(0, name.indexOf("\0")),
    mapExtra: info.readBigUInt64LE(MAP_INFO.map_extra),
    btf: btfId === 0 || valueTypeId === 0 ? null : { btfId, keyTypeId, valueTypeId },
  };
}
