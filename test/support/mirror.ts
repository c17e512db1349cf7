import { tmpdir } from "node:os";
import type { Test } from "tap";
import { BPF_F, BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { Drift } from "../../src/engine/drift.ts";
import type {
  ElementChange,
  ElementDifference,
  Lagging,
  LogEnd,
  Mirror,
  MirrorChange,
  MirrorRefusal,
  MirrorRetry,
  MirrorSource,
  Untold,
} from "../../src/engine/ports.ts";
import type { Request } from "../../src/engine/request.ts";
import type { Window } from "../../src/engine/windows.ts";
import { isOfMaps } from "../../src/maps/facts.ts";
import type { Element, Host, MapRecord } from "../../src/maps/map.ts";
import { mapType } from "../../src/maps/types.ts";
import { KernelMirror, type KernelMirrorParts } from "../../src/mirror/kernel_mirror.ts";
import { mirrored } from "../../src/mirror/map_types.ts";
import { DEFAULT_PLACES } from "../../src/mirror/real_objects.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";

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

/** An element that the ledger changed while its kernel map did not follow, and what it was then. */
export function lagging(key: Buffer, was: Buffer | null): Lagging {
  return { key, before: was };
}

export function source(map: MapRecord, elements: readonly ElementChange[], ...pathnames: string[]): MirrorSource {
  const there = elements as readonly Element[];
  const type = mirrored(map, { ledger: host.possibleCpus, machine: host.possibleCpus });
  const identity = typeof type === "string" ? (key: Buffer): string => key.toString("hex") : type.identity;
  const places = new Map(there.map(({ key }, at) => [identity(key), at]));
  const placeOf = (key: Buffer): number => places.get(identity(key)) ?? -1;
  const isArray = typeof type !== "string" && type.absent === "zeros";
  const zeros = (key: Buffer): Element | null =>
    isArray ? { key, value: Buffer.alloc(mapType(map.type)?.valueBytes(map, host) ?? 0) } : null;
  return {
    map,
    btf: null,
    pathnames,
    elements: () => there,
    element: (key) => there[placeOf(key)] ?? zeros(key),
    room: () => map.maxEntries - there.length,
    after(key, limit) {
      const from = key === null ? 0 : placeOf(key) + 1;
      return there.slice(from, from + limit);
    },
  };
}

/** A log that ends where the test says, or behind all that its mirrors are told. */
export function logEnd(lastSeq = 1_000_000, id = LOG, life = LIFE): LogEnd {
  return { id, life, lastSeq, hashOf: (seq) => hashOf(seq) };
}

const LOG = "00000000-0000-4000-8000-000000000001";
const LIFE = "00000000-0000-4000-8000-000000000002";

function hashOf(seq: number): Buffer {
  return Buffer.alloc(32, seq);
}

/** A mirror that has taken a directory of pins, if it could: `off` says. Closed at the end of the test. */
export function kernelMirror(
  test: Pick<Test, "teardown">,
  root: string,
  parts: Partial<KernelMirrorParts> = {},
): KernelMirror {
  const mirror = new KernelMirror({
    bpf: openBpf() as Bpf,
    root,
    host,
    machineCpus: 2,
    data: tmpdir(),
    places: DEFAULT_PLACES,
    unfit: () => null,
    nowMs: () => performance.now(),
    maker: null,
    ...parts,
  });
  test.teardown(() => mirror.close());
  mirror.begin(logEnd());
  return mirror;
}

/** A mirror, told of maps as they are in a test, and of an event a batch; the ledger wins where they differ. */
export type Driven = Pick<Mirror, "off" | "status" | "close"> & {
  /** What became of the past: elements that the ledger changed while kernel maps did not follow. */
  takeUp(sources: readonly MirrorSource[], directories: readonly string[], window?: Window): MirrorRefusal[];
  apply(changes: readonly MirrorChange[]): MirrorRefusal[];
  resync(from: MirrorSource): MirrorRefusal[];
  /** Compares a map, and does as the policy says. */
  settle(from: MirrorSource, policy: "report" | "repair" | "import", window?: Window): Request[];
  retry(from: MirrorSource): MirrorRetry;
  recreate(from: MirrorSource): readonly MirrorRefusal[];
};

export function driven(mirror: Mirror): Driven {
  let seq = mirror.carried ?? 0;
  let refused: MirrorRefusal[] = [];
  let ran: Request[] = [];
  const sources = new Map<number, MirrorSource>();
  const drift = new Drift({
    mirror,
    sources: { of: (id) => sources.get(id) ?? null },
    run: (requests) => {
      ran.push(...requests);
      return true;
    },
    notes: {
      refused: (refusals) => refused.push(...refusals),
      failed: (doing, error) => {
        throw new Error(doing, { cause: error });
      },
    },
    clock: { nowMs: () => performance.now() },
  });
  const taken = (): MirrorRefusal[] => {
    const answer = refused;
    refused = [];
    return answer;
  };
  const open = (from: MirrorSource, window: Window): void => {
    sources.set(from.map.id, from);
    const { opening, refusals } = mirror.open(from);
    refused.push(...refusals);
    const { compared } = mirror.traits(from.map);
    if (opening === "made") mirror.takenUp(from.map.id, compared ? "yes" : "unknown");
    else if (opening === "found" && compared) drift.settleNow(from.map.id, "repair", window, "start");
    else if (opening === "found") {
      refused.push(...mirror.catchUp(from, window === "born" ? [] : window));
      mirror.takenUp(from.map.id, "unknown");
    }
  };
  return {
    get off() {
      return mirror.off;
    },
    takeUp(all, directories, window = null) {
      refused.push(...mirror.ensureDirectories(directories));
      const isOuter = ({ map }: MirrorSource): boolean => isOfMaps(map.type);
      for (const from of [...all.filter((one) => !isOuter(one)), ...all.filter(isOuter)]) open(from, window);
      mirror.reached(seq);
      return taken();
    },
    apply(changes) {
      seq++;
      return mirror.apply(changes, seq);
    },
    resync(from) {
      open(from, null);
      return taken();
    },
    settle(from, policy, window = null) {
      sources.set(from.map.id, from);
      ran = [];
      drift.settleNow(from.map.id, policy, window, "start");
      return ran;
    },
    retry: (from) => mirror.retry((id) => (id === from.map.id ? from : null)),
    recreate: (from) => mirror.recreate(from),
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
  const scan = mirror.scan(from, "kernel");
  for (;;) {
    const { value, done } = scan.next();
    if (done === true) return { found, untold: value };
    found.push(...value);
  }
}
