import { ERRNO, errnoName } from "../abi/errno.ts";
import type { ForeignMap, KernelMapFacts } from "../engine/ports.ts";
import type { Element, MapRecord } from "../maps/map.ts";
import { fdinfo } from "./fdinfo.ts";
import { shownKey } from "./kernel_elements.ts";
import { KeyedElements } from "./keyed_elements.ts";
import type { Making } from "./make.ts";
import type { MapInfo } from "./map_info.ts";
import { cannotAdopt, mirrored } from "./mirrored.ts";

/** Why there is none to be had. */
export interface NoForeignMap {
  readonly errno: string;
  readonly detail: string;
}

/** A kernel map that some other program has made, held by an fd. */
export class Foreign implements ForeignMap {
  readonly id: number;
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly mapFlags: number;
  readonly name: string;
  readonly mapExtra: bigint;
  readonly frozen: boolean;
  readonly fd: number;
  readonly #making: Making;

  constructor(making: Making, info: MapInfo, fd: number, frozen: boolean) {
    this.#making = making;
    this.id = info.id;
    this.type = info.type;
    this.keySize = info.keySize;
    this.valueSize = info.valueSize;
    this.maxEntries = info.maxEntries;
    this.mapFlags = (info.mapFlags & ~ownFlags(making, info)) >>> 0;
    this.name = info.name;
    this.mapExtra = info.mapExtra;
    this.frozen = frozen;
    this.fd = fd;
  }

  elements(): readonly Element[] | NoForeignMap {
    const map = recordOf(this);
    const type = mirrored(map, this.#making.cpus);
    if (typeof type === "string") return { errno: "EOPNOTSUPP", detail: type };
    const elements: Element[] = [];
    const read = new KeyedElements({ ...this.#making, type, map, fd: this.fd }).read((key, value) =>
      elements.push({ key: Buffer.from(key), value: Buffer.from(value) }),
    );
    const named = type.refers === "some do" ? elements.find(({ value }) => namesProgram(value)) : undefined;
    if (named === undefined) return read ?? elements;
    return {
      errno: "EOPNOTSUPP",
      detail: `element ${shownKey(named.key)} names a program: no descriptor of it is known`,
    };
  }
}

/** Opens one by the kernel's id, or by a pin. */
export function openForeign(
  making: Making,
  which: { readonly kernelId: number } | { readonly pinned: string },
): Foreign | NoForeignMap {
  const { bpf } = making;
  const shown = "kernelId" in which ? `kernel map ${which.kernelId}` : `what is pinned at ${which.pinned}`;
  const fd = "kernelId" in which ? bpf.mapFdById(which.kernelId) : bpf.get(which.pinned);
  if (fd < 0) return refused(shown, fd);
  const about = fdinfo(fd);
  const info = about === null ? -ERRNO.EINVAL : bpf.infoByFd(fd);
  if (about === null || typeof info === "number") {
    bpf.close(fd);
    return about === null ? { errno: "EINVAL", detail: `${shown} is no map` } : refused(shown, info as number);
  }
  const cannot = cannotAdopt(recordOf(info), making.cpus);
  if (cannot !== null) {
    bpf.close(fd);
    return { errno: "EOPNOTSUPP", detail: `${shown} cannot be adopted: ${cannot}` };
  }
  return new Foreign(making, info, fd, about.frozen);
}

/** All kernel maps that there are. `mapOf`: the map that one is the mirror of. */
export function* kernelMaps(
  making: Making,
  mapOf: (kernelId: number) => number | null,
  own: ReadonlySet<number>,
): Iterable<KernelMapFacts> {
  const { bpf } = making;
  for (let id = bpf.mapGetNextId(0); id > 0; id = bpf.mapGetNextId(id)) {
    const fd = bpf.mapFdById(id);
    if (fd < 0) continue;
    const info = bpf.infoByFd(fd);
    const frozen = fdinfo(fd)?.frozen === true;
    bpf.close(fd);
    if (typeof info === "number") continue;
    const map = mapOf(id);
    const cannot = own.has(id)
      ? "it is the mirror's own"
      : map !== null
        ? `it is map ${map}'s`
        : cannotAdopt(recordOf(info), making.cpus);
    yield { ...info, frozen, map, cannot };
  }
}

/** Flags that the kernel sets by itself, and a creation does not take. */
function ownFlags({ cpus }: Making, info: MapInfo): number {
  const type = mirrored(recordOf(info), cpus);
  return typeof type === "string" ? 0 : type.ownFlags;
}

/** Of a DEVMAP and its like: behind the number there may be a program's id. */
function namesProgram(value: Buffer): boolean {
  return value.length >= 8 && value.readUInt32LE(4) !== 0;
}

/** The map that it would be. */
function recordOf(info: Omit<MapInfo, "id">): MapRecord {
  const none = { frozen: false, exclusive: false, inner: null, btf: null, special: [], owner: null };
  return { ...info, ...none, id: 0, numaNode: -1, adopted: true };
}

function refused(shown: string, ret: number): NoForeignMap {
  return { errno: errnoName(-ret), detail: `opening ${shown}: ${errnoName(-ret)}` };
}
