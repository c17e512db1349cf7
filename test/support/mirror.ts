import { BPF_F, BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import type {
  ElementChange,
  ElementDifference,
  Mirror,
  MirrorChange,
  MirrorRefusal,
  MirrorSource,
  Untold,
} from "../../src/engine/ports.ts";
import type { Element, Host, MapRecord } from "../../src/maps/map.ts";

/** Maps and elements for tests of the mirror, and a mirror that is told of them. */

export const host: Host = { possibleCpus: 2, pageBytes: 4096, memoryBytes: 2 ** 33, onlineNodes: [0], ifindexes: [1] };
const { BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_LPM_TRIE } = BPF_MAP_TYPE;

export const hash: MapRecord = {
  id: 7,
  type: BPF_MAP_TYPE_HASH,
  keySize: 4,
  valueSize: 8,
  maxEntries: 64,
  mapFlags: 0,
  name: "routes",
  mapExtra: 0n,
  numaNode: 0,
  frozen: false,
  exclusive: false,
  inner: null,
  btf: null,
  special: [],
  owner: null,
};
export const array: MapRecord = { ...hash, id: 8, type: BPF_MAP_TYPE_ARRAY, maxEntries: 5, name: "" };
export const trie: MapRecord = {
  ...hash,
  id: 9,
  type: BPF_MAP_TYPE_LPM_TRIE,
  keySize: 8,
  mapFlags: BPF_F.BPF_F_NO_PREALLOC,
};

export function u32(number: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(number);
  return bytes;
}

export function u64(number: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(number);
  return bytes;
}

export function put(key: number, value: number): ElementChange {
  return { key: u32(key), value: u64(value) };
}

export function gone(key: number): ElementChange {
  return { key: u32(key), value: null };
}

export function source(map: MapRecord, elements: readonly ElementChange[], ...pathnames: string[]): MirrorSource {
  const there = elements as readonly Element[];
  const places = new Map(there.map(({ key }, at) => [key.toString("hex"), at]));
  const placeOf = (key: Buffer): number => places.get(key.toString("hex")) ?? -1;
  return {
    map,
    btf: null,
    pathnames,
    elements: () => there,
    element: (key) => there[placeOf(key)] ?? null,
    after(key, limit) {
      const from = key === null ? 0 : placeOf(key) + 1;
      return there.slice(from, from + limit);
    },
  };
}

/** Its last event, and the maps that events behind the last carried one have changed; null: that is not known. */
interface LogOfTest {
  readonly seq: number;
  readonly changed: readonly number[] | null;
}

/** A mirror, told of maps as they are in a test, and of an event a batch. */
export type Driven = Pick<Mirror, "off" | "resync" | "retry" | "status" | "close"> & {
  takeUp(sources: readonly MirrorSource[], directories: readonly string[], log?: LogOfTest): MirrorRefusal[];
  apply(changes: readonly MirrorChange[]): MirrorRefusal[];
};

export function driven(mirror: Mirror): Driven {
  let seq = 0;
  return {
    off: mirror.off,
    takeUp(sources, directories, log = { seq: 0, changed: null }) {
      ({ seq } = log);
      const of = (mapId: number): MirrorSource | null => sources.find(({ map }) => map.id === mapId) ?? null;
      const changedSince = (): ReadonlySet<number> | null => (log.changed === null ? null : new Set(log.changed));
      return mirror.takeUp({ seq, all: () => sources, of, changedSince }, directories, () => {});
    },
    apply: (changes) => mirror.apply(changes, ++seq),
    resync: (from) => mirror.resync(from),
    retry: () => mirror.retry(),
    status: (mapId) => mirror.status(mapId),
    close: () => mirror.close(),
  };
}

/** All that a scan finds. */
export function scanned(
  mirror: Mirror,
  from: MirrorSource,
): { found: ElementDifference[]; untold: MirrorRefusal | Untold | null } {
  const found: ElementDifference[] = [];
  const scan = mirror.scan(from);
  for (;;) {
    const { value, done } = scan.next();
    if (done === true) return { found, untold: value };
    found.push(...value);
  }
}
