/** Makes kernel maps for maps of the state, and opens those that exist. */

import { BPF_F } from "../abi/bpf.ts";
import type { MirrorRefusal, MirrorSource } from "../engine/ports.ts";
import type { Host, InnerShape, MapRecord } from "../maps/map.ts";
import type { Bpf } from "../native/bpf.ts";
import type { MapInfo } from "../native/map_info.ts";
import { btfWarning } from "./btf_warning.ts";
import { neededAt, neededToCreate, type Privilege } from "./capability.ts";
import { toHold } from "./descriptor_limit.ts";
import { isMapFd } from "./fdinfo.ts";
import { KernelMap } from "./kernel_map.ts";
import { type Cpus, type MirroredType, mirrored, type References } from "./map_types.ts";
import { refusal } from "./refusal.ts";

/** Everything that making a kernel map needs. */
export interface Making {
  readonly bpf: Bpf;
  readonly host: Host;
  readonly cpus: Cpus;
  readonly refs: References;
}

/** Creation flags that the kernel does not keep in a map's info. */
const MODES = BPF_F.BPF_F_RDONLY | BPF_F.BPF_F_WRONLY | BPF_F.BPF_F_TOKEN_FD;

/** A map of the state that needs a kernel map. */
export type Wanted = Pick<MirrorSource, "map" | "btf">;

/** A new kernel map: its descriptor and the kernel's id. */
export interface Created {
  readonly fd: number;
  readonly id: number;
}

/** Makes an empty kernel map with a map's definition. */
export function makeKernelMap(making: Making, type: MirroredType, wanted: Wanted): KernelMap | MirrorRefusal {
  const created = createKernelMap(making, type, wanted);
  return "fd" in created ? heldAs(making, type, wanted.map, created) : created;
}

/** Wraps a kernel map that was created for a map. */
export function heldAs(making: Making, type: MirroredType, map: MapRecord, { fd, id }: Created): KernelMap {
  return new KernelMap({ ...making, type, map, fd }, id);
}

/**
 * The part of making a kernel map that any thread can do. The kernel allocates memory and checks BTF, which may take
 * long.
 */
export function createKernelMap(
  making: Pick<Making, "bpf" | "cpus">,
  type: MirroredType,
  { map, btf }: Wanted,
): Created | MirrorRefusal {
  const { bpf } = making;
  const opened: number[] = [];
  const refused = (operation: string, ret: number, doing: string, needed: readonly Privilege[] = []): MirrorRefusal => {
    for (const fd of opened) bpf.close(fd);
    return refusal(map.id, operation, ret, doing, needed);
  };
  const shape = shapeOf(making, type, map);
  const with_ = { innerMapFd: 0, btfFd: 0, btfKeyTypeId: 0, btfValueTypeId: 0 };
  if (map.inner !== null) {
    const template = makeTemplate(making, map.inner);
    if (template < 0) {
      const needed = neededToCreate(map.inner.type, map.inner.mapFlags);
      return refused("BPF_MAP_CREATE", template, "making a template for the inner kernel maps", needed);
    }
    opened.push(template);
    with_.innerMapFd = template;
  }
  if (map.btf !== null && btf !== null) {
    const warning = btfWarning(btf, map.btf.valueTypeId);
    if (warning !== null)
      return refused("BPF_BTF_LOAD", -warning.number, `the kernel must not load this BTF: ${warning.detail}`);
    const loaded = bpf.loadBtf(btf);
    if (loaded < 0) return refused("BPF_BTF_LOAD", loaded, "loading the BTF of the kernel map", ["CAP_BPF"]);
    opened.push(loaded);
    with_.btfFd = loaded;
    with_.btfKeyTypeId = map.btf.keyTypeId;
    with_.btfValueTypeId = map.btf.valueTypeId;
  }
  const fd = toHold(bpf, bpf.create(shape, with_));
  if (fd < 0) return refused("BPF_MAP_CREATE", fd, "creating the kernel map", neededToCreate(map.type, shape.mapFlags));
  const info = bpf.infoByFd(fd);
  if (typeof info === "number") {
    opened.push(fd);
    return refused("BPF_OBJ_GET_INFO_BY_FD", info, "asking for the kernel map's id");
  }
  for (const other of opened) bpf.close(other);
  return { fd, id: info.id };
}

/**
 * Opens the kernel map that is pinned at `path`, if it has the map's definition (numa_node cannot be checked) and, for
 * an adopted map, the recorded kernel id. Otherwise returns a refusal: ENOENT if nothing is pinned there, EEXIST if
 * something else is.
 */
export function openKernelMap(
  making: Making,
  type: MirroredType,
  map: MapRecord,
  path: string,
): KernelMap | MirrorRefusal {
  const { bpf } = making;
  const fd = toHold(bpf, bpf.get(path));
  if (fd < 0) return refusal(map.id, "BPF_OBJ_GET", fd, `opening ${path}`, neededAt(path));
  const info = isMapFd(fd) ? bpf.infoByFd(fd) : null;
  const other = info === null || typeof info === "number" ? "no map" : otherThan(making, type, map, info);
  if (info !== null && typeof info !== "number" && other === null)
    return new KernelMap({ ...making, type, map, fd }, info.id);
  bpf.close(fd);
  const detail = `what is pinned at ${path} is not this map's: ${other}; it is left as it is`;
  return { mapId: map.id, operation: "BPF_OBJ_GET", errno: "EEXIST", detail };
}

/** The reason why a kernel map does not have a map's definition, or is not the adopted one; null if it fits. */
export function otherThan(
  { cpus }: Pick<Making, "cpus">,
  type: MirroredType,
  map: MapRecord,
  info: MapInfo,
): string | null {
  if (map.adopted !== undefined && map.adopted !== info.id) return `kernel map ${info.id}, not ${map.adopted}`;
  const unfit = misfit(info, map, type.shape(map, cpus.machine));
  return unfit === null ? null : `kernel map ${info.id}, whose ${unfit}`;
}

/** Creates a kernel map for inner_map_fd. It may be closed after the outer map is created. */
function makeTemplate(making: Pick<Making, "bpf" | "cpus">, inner: InnerShape): number {
  const like = { ...inner, name: "", mapExtra: 0n, numaNode: 0 };
  const record = { ...like, id: 0, frozen: false, exclusive: false, inner: null, btf: null, owner: null };
  const type = mirrored(record, making.cpus);
  return making.bpf.create(typeof type === "string" ? like : shapeOf(making, type, record));
}

function shapeOf({ cpus }: Pick<Making, "cpus">, type: MirroredType, map: MapRecord): MapRecord {
  const { maxEntries, mapFlags } = type.shape(map, cpus.machine);
  return { ...map, maxEntries, mapFlags: (mapFlags & ~type.ownFlags) >>> 0 };
}

/** Names the first field in which a kernel map's definition differs; null if none does. */
function misfit(info: MapInfo, map: MapRecord, shape: Pick<MapRecord, "maxEntries" | "mapFlags">): string | null {
  const wanted = { ...map, maxEntries: shape.maxEntries, mapFlags: (shape.mapFlags & ~MODES) >>> 0 };
  for (const [name, field] of FIELDS)
    if (info[field] !== wanted[field]) return `${name} is ${info[field]}, not ${wanted[field]}`;
  return null;
}

const FIELDS = [
  ["map_type", "type"],
  ["key_size", "keySize"],
  ["value_size", "valueSize"],
  ["max_entries", "maxEntries"],
  ["map_flags", "mapFlags"],
  ["map_name", "name"],
  ["map_extra", "mapExtra"],
] as const;
