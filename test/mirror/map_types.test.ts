import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import t from "tap";
import { compareRandomly } from "../../conformance/random.ts";
import { HOST, Service } from "../../conformance/service.ts";
import { STREAM_TYPES, type StreamType } from "../../conformance/shapes.ts";
import { BPF_MAP_TYPE, mapTypeName } from "../../src/abi/bpf.ts";
import { ERRNO } from "../../src/abi/errno.ts";
import type { Engine } from "../../src/engine/engine.ts";
import type { Mirror, MirrorSource, MirrorStatus } from "../../src/engine/ports.ts";
import { readHost } from "../../src/host.ts";
import { mirrorShapeOf } from "../../src/maps/facts.ts";
import type { MapRecord } from "../../src/maps/map.ts";
import { mapType } from "../../src/maps/types.ts";
import { MadeCgroups } from "../../src/mirror/made_cgroups.ts";
import { DEFAULT_PLACES } from "../../src/mirror/real_objects.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { OPERATOR, OpenMap } from "../../src/syscall/open_map.ts";
import { BPFFS, unfitForKernel } from "../support/bpffs.ts";
import { kernelMirror, scanned } from "../support/mirror.ts";
import { OWN_NAME } from "../support/own_name.ts";
import { SEED } from "../support/seed.ts";

const TIME_MS = Number(process.env.MIRROR_TIME_MS ?? 30_000);
/** However slow the machine is. */
const COMMANDS_AT_LEAST = 100;

/** Maps that a socket goes through. */
const FREED = 200;

const LRU: readonly StreamType[] = ["LRU_HASH", "LRU_PERCPU_HASH"];

const FAMILIES: Readonly<Record<string, readonly StreamType[]>> = {
  hashes: ["HASH", "PERCPU_HASH"],
  "least recently used": LRU,
  "arrays and tries": ["ARRAY", "PERCPU_ARRAY", "LPM_TRIE"],
  "lines and filters": ["QUEUE", "STACK", "BLOOM_FILTER"],
  "maps of maps": ["ARRAY_OF_MAPS", "HASH_OF_MAPS"],
  "where packets go": ["DEVMAP", "DEVMAP_HASH", "CPUMAP", "XSKMAP"],
  "arrays of descriptors": ["PROG_ARRAY", "PERF_EVENT_ARRAY", "CGROUP_ARRAY"],
  sockets: ["SOCKMAP", "SOCKHASH", "REUSEPORT_SOCKARRAY"],
  "local storage": ["SK_STORAGE", "INODE_STORAGE", "TASK_STORAGE", "CGRP_STORAGE"],
  "what programs fill": ["CGROUP_STORAGE", "PERCPU_CGROUP_STORAGE", "STACK_TRACE", "RINGBUF", "USER_RINGBUF", "ARENA"],
  "all types": STREAM_TYPES,
};

function run(bpf: Bpf): void {
  const base = `${BPFFS}/mltypes${OWN_NAME}`;
  mkdirSync(base);
  t.teardown(() => rmSync(base, { recursive: true }));
  const { possibleCpus } = readHost();
  const host = { ...HOST, possibleCpus };
  let directories = 0;
  // A mirror that closes leaves the cgroups that it has made to the next start.
  const notes = mkdtempSync(join(tmpdir(), "mapledger-types-"));
  const places = { ...DEFAULT_PLACES, cgroups: new MadeCgroups(notes) };
  t.teardown(() => {
    places.cgroups.removeLeft(new Set());
    rmSync(notes, { recursive: true });
  });

  /** A mirror in a directory of its own. */
  function opened(): { readonly mirror: Mirror; readonly root: string } {
    const root = `${base}/d${++directories}`;
    const mirror = kernelMirror(t, root, { host, machineCpus: possibleCpus, places });
    mirror.reached(0);
    return { mirror, root };
  }

  for (const [family, types, mirrorShape] of [
    ...Object.entries(FAMILIES).map(([family, types]) => [family, types, "roomy"] as const),
    ["least recently used, exact", LRU, "exact"] as const,
  ])
    t.test(`${family}: after each command the kernel map is the map`, async (t) => {
      t.comment(`SEED=${SEED}`);
      let compared = 0;
      const states = new Map<string, number>();
      const { commands } = compareRandomly({
        types,
        seed: SEED,
        commands: COMMANDS_AT_LEAST,
        timeMs: TIME_MS / Object.keys(FAMILIES).length,
        mirrored() {
          const { mirror, root } = opened();
          const check = new Check(bpf, mirror, root);
          return {
            mirror,
            mirrorShape,
            ran(engine) {
              compared += check.all(engine);
              for (const [, map] of engine.state.maps.from("")) {
                const { state } = mirror.status(map.id);
                const name = `${mapTypeName(map.type)} ${state}`;
                states.set(name, (states.get(name) ?? 0) + 1);
              }
            },
            close() {
              mirror.close();
              rmSync(root, { recursive: true });
            },
          };
        },
      });
      t.comment(Object.fromEntries(states));
      t.ok(commands >= COMMANDS_AT_LEAST, `${commands} commands, ${compared} kernel maps compared`);
      t.ok(compared > 0);
    });

  t.test("what was in a freed map goes into the next one", async (t) => {
    const { mirror } = opened();
    t.teardown(() => mirror.close());
    const late = new Map<number, string>();
    const errnos = new Set<unknown>();
    const service = new Service({}, host, {
      mirror,
      ran({ state }) {
        for (const [, { id }] of state.maps.from("")) {
          const status = mirror.status(id);
          if (status.state !== "on") late.set(id, status.detail ?? status.state);
        }
      },
    });
    const value = Buffer.alloc(8);
    value.writeUInt32LE(service.open({ kind: "udp_bound", reuseport: true }).ret);
    for (let at = 0; at < FREED; at++) {
      const map_type = `BPF_MAP_TYPE_${at % 2 === 0 ? "SOCKMAP" : "REUSEPORT_SOCKARRAY"}`;
      const attr = { map_type, key_size: 4, value_size: 8, max_entries: 1 };
      const map_fd = service.bpf({ cmd: "BPF_MAP_CREATE", attr }).ret;
      const element = { map_fd, key: "00000000", value: value.toString("hex") };
      errnos.add(service.bpf({ cmd: "BPF_MAP_UPDATE_ELEM", attr: element }).errno);
      service.close(map_fd);
    }
    t.same([...errnos], [null]);
    // The kernel frees a map later, and is waited for, a tenth of a second: without that 44 in a hundred were refused.
    t.ok(late.size < FREED / 5, `${late.size} of ${FREED}`);
    for (const detail of late.values()) t.match(detail, /EBUSY/);
    service.end();
  });

  t.test("every map type is of a family", async (t) => {
    const families = Object.entries(FAMILIES).filter(([name]) => name !== "all types");
    const known = [...families.flatMap(([, types]) => types), "STRUCT_OPS"];
    t.same(known.sort(), [...STREAM_TYPES].sort());
  });
}

const LINES: ReadonlySet<number> = new Set([BPF_MAP_TYPE.BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE.BPF_MAP_TYPE_STACK]);
const PLAIN: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_PERCPU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
  BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY,
  BPF_MAP_TYPE.BPF_MAP_TYPE_LPM_TRIE,
]);
const OF_MAPS: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS,
  BPF_MAP_TYPE.BPF_MAP_TYPE_HASH_OF_MAPS,
]);
/** Why maps are off. */
const OFF = /^(a struct_ops is not mirrored|a map with excl_prog_hash|maps with .* inside another)/;
/** Directories of bpffs are the ledger's own: no kernel object stands for them. */
const LEDGER_ONLY = /: object \d+ exists in the ledger only$/;
/** More elements than the streams put into a map. */
const BATCH = 4096;

/** Kernel maps, read by what another process would read them with, beside the maps of a state. */
class Check {
  readonly #bpf: Bpf;
  readonly #mirror: Mirror;
  readonly #root: string;

  constructor(bpf: Bpf, mirror: Mirror, root: string) {
    this.#bpf = bpf;
    this.#mirror = mirror;
    this.#root = root;
  }

  /** Answers how many were compared; throws where one is not as it should be. */
  all({ state }: Engine): number {
    let compared = 0;
    for (const [, map] of state.maps.from("")) {
      const status = this.#mirror.status(map.id);
      if (status.state === "off" && OFF.test(status.detail)) continue;
      if (status.state === "failed" && LEDGER_ONLY.test(status.detail)) continue;
      if (status.state !== "on") throw new Error(`${nameOf(map)} is ${JSON.stringify(status)}`);
      const open = new OpenMap(state, map, OPERATOR);
      const elements = () => mapType(map.type)?.stored(open) ?? [];
      const never = (): never => {
        throw new Error("elements of these types are compared all at once");
      };
      this.#compare({ map, btf: null, pathnames: [], room: never, elements, element: never, after: never }, status);
      compared++;
    }
    return compared;
  }

  #compare(source: MirrorSource, status: MirrorStatus & { state: "on" }): void {
    const { map } = source;
    const fd = this.#bpf.get(`${this.#root}/by_id/${map.id}`);
    if (fd < 0) throw new Error(`${nameOf(map)} is not pinned: ${fd}`);
    try {
      if (LINES.has(map.type)) this.#line(fd, source);
      else if (map.type === BPF_MAP_TYPE.BPF_MAP_TYPE_BLOOM_FILTER) this.#filter(fd, source);
      else if (PLAIN.has(map.type) || OF_MAPS.has(map.type)) this.#batch(fd, source, status);
      else this.#told(source);
    } finally {
      this.#bpf.close(fd);
    }
  }

  /** By batches. */
  #batch(fd: number, { map, elements }: MirrorSource, { maxEntries }: { maxEntries: number }): void {
    const { keySize } = map;
    const isArray = map.type === BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY || map.type === BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY;
    const valueBytes = mapType(map.type)?.valueBytes(map, { ...HOST, possibleCpus: readHost().possibleCpus }) as number;
    const count = Math.min(maxEntries, BATCH);
    this.#bpf.room(count * keySize, count * valueBytes);
    const { keys, values } = this.#bpf;
    const ret = this.#bpf.lookupBatch(fd, null, Buffer.alloc(Math.max(keySize, 4)), keys, values, count);
    if (ret !== 0 && ret !== -ERRNO.ENOENT) throw new Error(`reading ${nameOf(map)}: ${ret}`);
    const found: Record<string, string> = {};
    for (let at = 0; at < this.#bpf.count; at++) {
      const value = values.toString("hex", at * valueBytes, (at + 1) * valueBytes);
      if (isArray && /^0*$/.test(value)) continue;
      found[keys.toString("hex", at * keySize, (at + 1) * keySize)] = value;
    }
    const wanted: Record<string, string> = {};
    for (const { key, value } of elements()) {
      const shown = OF_MAPS.has(map.type) ? this.#kernelId(value) : value.toString("hex");
      if (!isArray || !/^0*$/.test(shown)) wanted[key.toString("hex")] = shown;
    }
    same(map, found, mirrorShapeOf(map) === "exact" ? whereIn(wanted, found) : wanted);
  }

  #kernelId(value: Buffer): string {
    const inner = this.#mirror.status(value.readUInt32LE(0));
    if (inner.state !== "on") throw new Error(`an inner map is ${JSON.stringify(inner)}`);
    const id = Buffer.alloc(4);
    id.writeUInt32LE(inner.kernelId);
    return id.toString("hex");
  }

  /** Everything is popped, and pushed again. */
  #line(fd: number, { map, elements }: MirrorSource): void {
    if (map.frozen || (map.mapFlags & 0x180) !== 0) return;
    const popped: Buffer[] = [];
    for (;;) {
      const value = Buffer.alloc(map.valueSize);
      const ret = this.#bpf.take(fd, null, value);
      if (ret === -ERRNO.ENOENT) break;
      if (ret < 0) throw new Error(`popping from ${nameOf(map)}: ${ret}`);
      popped.push(value);
    }
    if (map.type === BPF_MAP_TYPE.BPF_MAP_TYPE_STACK) popped.reverse();
    for (const value of popped) this.#bpf.update(fd, null, value);
    same(
      map,
      popped.map((value) => value.toString("hex")),
      [...elements()].map(({ value }) => value.toString("hex")),
    );
  }

  #filter(fd: number, { map, elements }: MirrorSource): void {
    for (const { value } of elements())
      if (this.#bpf.lookup(fd, null, Buffer.from(value)) !== 0)
        throw new Error(`${nameOf(map)} has not ${value.toString("hex")}`);
  }

  /** As far as the kernel tells of it. */
  #told(source: MirrorSource): void {
    const differences: string[] = [];
    const { found, untold } = scanned(this.#mirror, source);
    for (const { key, ledger, kernel } of found)
      differences.push(`${key.toString("hex")}: ${ledger?.toString("hex")}, in the kernel ${kernel?.toString("hex")}`);
    if (untold !== null && !("untold" in untold)) throw new Error(`${nameOf(source.map)}: ${untold.detail}`);
    same(source.map, differences, []);
  }
}

/** From an exact LRU map the kernel evicts elements by itself: it has no others than the ledger, and may have fewer. */
function whereIn(wanted: Record<string, string>, found: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(wanted).filter(([key]) => key in found));
}

function same(map: MapRecord, found: unknown, wanted: unknown): void {
  if (!isDeepStrictEqual(found, wanted))
    throw new Error(`${nameOf(map)} has ${JSON.stringify(found)}, it should have ${JSON.stringify(wanted)}`);
}

function nameOf({ type, id }: MapRecord): string {
  return `the kernel map of map ${id}, a ${mapTypeName(type)},`;
}

const reason = unfitForKernel();
if (reason !== null) t.pass("bpf(2)", { skip: reason });
else run(openBpf() as Bpf);
