import { BPF_F } from "../abi/bpf.ts";
import type { MirrorRefusal } from "../engine/ports.ts";
import type { Host, MapRecord } from "../maps/map.ts";
import type { Bpf } from "./bpf.ts";
import { fdinfo } from "./fdinfo.ts";
import { KernelMap } from "./kernel_map.ts";
import type { MapInfo } from "./map_info.ts";
import type { MirroredType } from "./mirrored.ts";
import { refusal } from "./refusal.ts";

/** Flags that no map remembers. */
const MODES = BPF_F.BPF_F_RDONLY | BPF_F.BPF_F_WRONLY | BPF_F.BPF_F_TOKEN_FD;

/** A new, empty kernel map of a map's definition. */
export function makeKernelMap(bpf: Bpf, host: Host, type: MirroredType, map: MapRecord): KernelMap | MirrorRefusal {
  const fd = bpf.create(map);
  if (fd < 0) return refusal(map.id, "BPF_MAP_CREATE", fd, "creating the kernel map");
  const info = bpf.infoByFd(fd);
  if (typeof info !== "number") return new KernelMap(bpf, host, type, map, fd, info.id);
  bpf.close(fd);
  return refusal(map.id, "BPF_OBJ_GET_INFO_BY_FD", info, "asking for the kernel map's id");
}

/** What is pinned at `path`, if it is a kernel map of just this definition: numa_node alone cannot be seen. */
export function openKernelMap(
  bpf: Bpf,
  host: Host,
  type: MirroredType,
  map: MapRecord,
  path: string,
): KernelMap | null {
  const fd = bpf.get(path);
  if (fd < 0) return null;
  if (fdinfo(fd) !== null) {
    const info = bpf.infoByFd(fd);
    if (typeof info !== "number" && fits(info, map)) return new KernelMap(bpf, host, type, map, fd, info.id);
  }
  bpf.close(fd);
  return null;
}

function fits(info: MapInfo, map: MapRecord): boolean {
  return (
    info.type === map.type &&
    info.keySize === map.keySize &&
    info.valueSize === map.valueSize &&
    info.maxEntries === map.maxEntries &&
    info.mapFlags === (map.mapFlags & ~MODES) >>> 0 &&
    info.name === map.name &&
    info.mapExtra === map.mapExtra
  );
}
