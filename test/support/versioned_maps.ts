import { BPF_F, BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import type { MirrorShape } from "../../src/maps/map.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { u32, u64 } from "./mirror.ts";
import type { Sentinel } from "./witness.ts";

/** A map of a type: its sentinel has a version for a value, which only ascends; the others, its fillers, have 0. */
interface Kind {
  readonly type: keyof typeof BPF_MAP_TYPE;
  readonly sentinel: Buffer;
  /** What programs look up, where it is not the sentinel's key itself. */
  readonly looked?: Buffer;
  readonly fillers: readonly [Buffer, ...Buffer[]];
  /** An element that the service does not know. */
  readonly stray: Buffer;
  readonly maxEntries: number;
  readonly flags?: number;
  readonly mirrorShape?: MirrorShape;
}

export interface VersionedMap extends Kind {
  readonly id: number;
  readonly fd: number;
  readonly kernelId: number;
  /** The last versions that were sent and that were answered. */
  sent: number;
  answered: number;
}

const MANY = 5000;
const INNER = { map_type: "BPF_MAP_TYPE_ARRAY", key_size: 4, value_size: 8, max_entries: 1 };
const INNER_KEY = u32(0);
const SESSION = "/v1/sessions/1";

/** A trie's key: 10.1.0.0/16 is prefix(16, 10, 1, 0, 0). */
function prefix(bits: number, ...data: number[]): Buffer {
  return Buffer.concat([u32(bits), Buffer.from(data)]);
}

const numbers: Kind["fillers"] = [u32(1000), ...Array.from({ length: MANY }, (_, at) => u32(1001 + at))];

const KINDS: readonly Kind[] = [
  { type: "BPF_MAP_TYPE_ARRAY", sentinel: u32(0), fillers: [u32(1)], stray: u32(2), maxEntries: 3 },
  // It is full: what is missing finds no room beside a stray.
  {
    type: "BPF_MAP_TYPE_HASH",
    sentinel: u32(1),
    fillers: numbers,
    stray: u32(2),
    maxEntries: numbers.length + 1,
  },
  // Without the sentinel its second filler would be found, which is older.
  {
    type: "BPF_MAP_TYPE_LPM_TRIE",
    sentinel: prefix(16, 10, 1, 0, 0),
    looked: prefix(32, 10, 1, 2, 3),
    fillers: [
      prefix(8, 11, 0, 0, 0),
      prefix(8, 10, 0, 0, 0),
      ...Array.from({ length: MANY }, (_, at) => prefix(32, 9, 9, at >> 8, at & 255)),
    ],
    stray: prefix(8, 12, 0, 0, 0),
    maxEntries: 2 * MANY,
    flags: BPF_F.BPF_F_NO_PREALLOC,
  },
  {
    type: "BPF_MAP_TYPE_LRU_HASH",
    sentinel: u32(1),
    fillers: numbers,
    stray: u32(2),
    maxEntries: 2 * MANY,
    mirrorShape: "roomy",
  },
  { type: "BPF_MAP_TYPE_HASH_OF_MAPS", sentinel: u32(1), fillers: [u32(3)], stray: u32(2), maxEntries: 8 },
];

/** Makes a map of each kind in a service that has no session yet; each is pinned at /sys/fs/bpf/TYPE. */
export async function makeVersioned(url: string): Promise<VersionedMap[]> {
  await call(url, "POST", "/v1/sessions", { ttl_seconds: 3600 });
  const maps: VersionedMap[] = [];
  for (const kind of KINDS) {
    const inner = isOfMaps(kind) ? await makeInner(url, 0) : 0;
    const shape = { map_type: kind.type, key_size: kind.sentinel.length, value_size: isOfMaps(kind) ? 4 : 8 };
    const create = {
      ...shape,
      max_entries: kind.maxEntries,
      map_flags: kind.flags ?? 0,
      inner_map_fd: inner,
      mirror_shape: kind.mirrorShape ?? null,
    };
    const { fd, map_id: id } = await call(url, "POST", `${SESSION}/maps`, create);
    await call(url, "POST", `${SESSION}/fds/${fd}/pin`, { pathname: `/sys/fs/bpf/${kind.type}` });
    const value = (isOfMaps(kind) ? u32(inner) : u64(0)).toString("hex");
    const elements = [kind.sentinel, ...kind.fillers].map((key) => ({ key: key.toString("hex"), value }));
    await call(url, "POST", `${SESSION}/fds/${fd}/batch/update`, { elements });
    if (inner !== 0) await call(url, "DELETE", `${SESSION}/fds/${inner}`);
    maps.push({ ...kind, id, fd, kernelId: await kernelIdOf(url, { id }), sent: 0, answered: 0 });
  }
  return maps;
}

/** Writes version after version, until the service answers no more. */
export async function writeVersions(url: string, map: VersionedMap): Promise<void> {
  for (;;) {
    map.sent++;
    try {
      await writeVersion(url, map);
    } catch {
      return;
    }
    map.answered = map.sent;
  }
}

/** In a map of maps, another inner map takes the place of the one that is there. */
async function writeVersion(url: string, map: VersionedMap): Promise<void> {
  const element = `${SESSION}/fds/${map.fd}/elements/${map.sentinel.toString("hex")}`;
  if (!isOfMaps(map)) return void (await call(url, "PUT", element, { value: u64(map.sent).toString("hex") }));
  const inner = await makeInner(url, map.sent);
  await call(url, "PUT", element, { value: u32(inner).toString("hex") });
  await call(url, "DELETE", `${SESSION}/fds/${inner}`);
}

/** A new inner map with a version, by its fd. */
async function makeInner(url: string, version: number): Promise<number> {
  const { fd } = await call(url, "POST", `${SESSION}/maps`, INNER);
  const value = u64(version).toString("hex");
  await call(url, "PUT", `${SESSION}/fds/${fd}/elements/${INNER_KEY.toString("hex")}`, { value });
  return fd;
}

/** The version that the service has. */
export async function recordedVersion(url: string, { id, sentinel, ...kind }: VersionedMap): Promise<number> {
  const value = await elementOf(url, id, sentinel);
  const version = isOfMaps(kind) ? await elementOf(url, value.readUInt32LE(0), INNER_KEY) : value;
  return Number(version.readBigUInt64LE(0));
}

/** Whether the service has an element. */
export async function isRecorded(url: string, { id }: { readonly id: number }, key: Buffer): Promise<boolean> {
  const { status } = await fetch(`${url}/v1/maps/${id}/elements/${key.toString("hex")}`);
  if (status !== 200 && status !== 404) throw new Error(`looking for element ${key.toString("hex")}: ${status}`);
  return status === 200;
}

/** The kernel's id of the map's map. */
export async function kernelIdOf(url: string, { id }: { readonly id: number }): Promise<number> {
  return (await call(url, "GET", `/v1/maps/${id}`)).mirror.kernel_id;
}

export function sentinelOf({ sentinel, looked = sentinel, ...kind }: VersionedMap, mapFd: number): Sentinel {
  return { mapFd, key: looked, ...(isOfMaps(kind) ? { innerKey: INNER_KEY } : {}) };
}

/** Does to a kernel map what repairs have to undo, but for an LRU map's filler: a filler goes, or where none can, is another, and a stray comes. */
export function meddle(bpf: Bpf, fd: number, { type, fillers, stray }: VersionedMap): void {
  const inner = isOfMaps({ type }) ? bpf.create({ ...PLAIN, type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY }) : -1;
  if (type === "BPF_MAP_TYPE_ARRAY") bpf.update(fd, fillers[0], u64(7));
  else bpf.delete(fd, fillers[0]);
  const ret = bpf.update(fd, stray, inner < 0 ? u64(7) : u32(inner));
  if (inner >= 0) bpf.close(inner);
  if (ret !== 0) throw new Error(`meddling with the kernel's ${type}: ${ret}`);
}

const PLAIN = { keySize: 4, valueSize: 8, maxEntries: 1, mapFlags: 0, name: "", mapExtra: 0n, numaNode: 0 };

/** How many elements a kernel map lacks, the sentinel and the fillers, and whether it has the stray. */
export function faultsOf(bpf: Bpf, fd: number, { type, sentinel, fillers, stray }: VersionedMap): object {
  const value = Buffer.alloc(8);
  const has = (key: Buffer): boolean => bpf.lookup(fd, key, value) === 0;
  // An array has all elements: what is not there is zero.
  const isThere = (key: Buffer): boolean => has(key) && (type !== "BPF_MAP_TYPE_ARRAY" || !value.equals(u64(0)));
  const changed = type === "BPF_MAP_TYPE_ARRAY" && isThere(fillers[0]);
  return { lacking: [sentinel, ...fillers].filter((key) => !has(key)).length, changed, stray: isThere(stray) };
}

function isOfMaps({ type }: Pick<Kind, "type">): boolean {
  return type === "BPF_MAP_TYPE_HASH_OF_MAPS";
}

async function elementOf(url: string, id: number, key: Buffer): Promise<Buffer> {
  const { value } = await call(url, "GET", `/v1/maps/${id}/elements/${key.toString("hex")}`);
  return Buffer.from(value, "hex");
}

// biome-ignore lint/suspicious/noExplicitAny: what comes back is as the route has it
async function call(url: string, method: string, path: string, body?: object): Promise<any> {
  const init =
    body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(`${url}${path}`, { method, ...init });
  const answer = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${answer}`);
  return answer === "" ? null : JSON.parse(answer);
}
