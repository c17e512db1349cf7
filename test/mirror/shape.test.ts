import { mkdirSync, rmSync } from "node:fs";
import t, { type Test } from "tap";
import { BPF_F, BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { ERRNO } from "../../src/abi/errno.ts";
import { readHost } from "../../src/host.ts";
import { lruEntries } from "../../src/maps/lru_shape.ts";
import type { InnerShape, MapRecord } from "../../src/maps/map.ts";
import { type MirroredType, mirrored } from "../../src/mirror/map_types.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import type { MapInfo } from "../../src/native/map_info.ts";
import { openBpf } from "../../src/native/probe.ts";
import { BPFFS, unfitForKernel } from "../support/bpffs.ts";
import { type Driven, driven, hash, host, kernelMirror, put, source, u32 } from "../support/mirror.ts";
import { OWN_NAME } from "../support/own_name.ts";

const { BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH, BPF_MAP_TYPE_HASH_OF_MAPS } = BPF_MAP_TYPE;
const OWN_LISTS = BPF_F.BPF_F_NO_COMMON_LRU;

const lru: MapRecord = { ...hash, type: BPF_MAP_TYPE_LRU_HASH, maxEntries: 1024, mirrorShape: "exact" };

t.test("the kernel evicts elements of LRU maps by itself, whatever their shape, and of no others", async (t) => {
  const evicts = (map: MapRecord): boolean => (mirrored(map, { ledger: 2, machine: 2 }) as MirroredType).evicts;
  const { mirrorShape: _, ...older } = lru;
  for (const map of [lru, { ...lru, mirrorShape: "roomy" as const }, older, { ...lru, adopted: 5 }])
    for (const type of [BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH]) t.ok(evicts({ ...map, type }));
  const { BPF_MAP_TYPE_UNSPEC, BPF_MAP_TYPE_STRUCT_OPS, ...types } = BPF_MAP_TYPE;
  const evicting = Object.entries(types).filter(([, type]) => evicts({ ...hash, type }));
  t.same(
    evicting.map(([name]) => name),
    ["BPF_MAP_TYPE_LRU_HASH", "BPF_MAP_TYPE_LRU_PERCPU_HASH"],
  );
});

function run(bpf: Bpf): void {
  const base = `${BPFFS}/mlshape${OWN_NAME}`;
  mkdirSync(base);
  t.teardown(() => rmSync(base, { recursive: true }));
  const cpus = readHost().possibleCpus;
  let directories = 0;

  function opened(test: Test, root = `${base}/d${++directories}`, ledgerCpus = cpus): { mirror: Driven; root: string } {
    const ledger = { ...host, possibleCpus: ledgerCpus };
    return { mirror: driven(kernelMirror(test, root, { host: ledger, machineCpus: cpus })), root };
  }

  function through<T>(root: string, id: number, use: (fd: number) => T): T {
    const fd = bpf.get(`${root}/by_id/${id}`);
    if (fd < 0) throw new Error(`opening map ${id} below ${root}: ${fd}`);
    try {
      return use(fd);
    } finally {
      bpf.close(fd);
    }
  }

  function info(root: string, id: number): MapInfo {
    return through(root, id, (fd) => bpf.infoByFd(fd) as MapInfo);
  }

  t.test("a kernel map has the shape of its map, and the next start finds that it fits", async (t) => {
    const own = { ...lru, mapFlags: OWN_LISTS };
    const { mirrorShape: _, ...older } = own;
    const roomy = { ...own, mirrorShape: "roomy" as const };
    const rounded = lruEntries({ maxEntries: 1023, mapFlags: OWN_LISTS }, cpus);
    const wide = 1024 + 128 * (cpus + 1);
    for (const [map, maxEntries, mapFlags, ledgerCpus = cpus] of [
      [lru, 1024, 0],
      [{ ...lru, type: BPF_MAP_TYPE_LRU_PERCPU_HASH }, 1024, 0],
      [own, lruEntries(own, cpus), OWN_LISTS],
      // As a ledger for other CPUs has recorded it: the kernel rounds.
      [{ ...own, maxEntries: 1023 }, rounded, OWN_LISTS, 1],
      [{ ...own, maxEntries: 1023, adopted: 5 }, rounded, OWN_LISTS, 1],
      [roomy, wide, 0],
      [older, wide, 0],
      [{ ...older, adopted: 5 }, lruEntries(own, cpus), OWN_LISTS],
    ] as const) {
      const what = JSON.stringify({ ...map, mapExtra: 0 });
      const { mirror, root } = opened(t, undefined, ledgerCpus);
      mirror.takeUp([], []);
      t.same(mirror.apply([{ kind: "create", btf: null, map }]), [], what);
      const { id } = info(root, map.id);
      t.match(info(root, map.id), { maxEntries, mapFlags });
      t.match(mirror.status(map.id), { state: "on", kernelId: id, maxEntries });
      mirror.close();
      const next = opened(t, root, ledgerCpus).mirror;
      t.same(next.takeUp([source("adopted" in map ? { ...map, adopted: id } : map, [])], []), []);
      t.match(next.status(map.id), { state: "on", kernelId: id }, "it is the same kernel map");
    }
  });

  t.test("a kernel map of another shape than its map is not taken up, and stays", async (t) => {
    const roomy = { ...lru, mirrorShape: "roomy" as const };
    for (const [before, after] of [
      [lru, roomy],
      [roomy, lru],
    ] as const) {
      const { mirror, root } = opened(t);
      mirror.takeUp([], []);
      mirror.apply([{ kind: "create", btf: null, map: before }]);
      const { id } = info(root, lru.id);
      mirror.close();
      const next = opened(t, root).mirror;
      t.match(next.takeUp([source(after, [put(1, 1)])], []), [{ operation: "BPF_OBJ_GET", errno: "EEXIST" }]);
      t.match(next.status(lru.id), { state: "failed", detail: /, whose max_entries is / });
      t.equal(info(root, lru.id).id, id);
      t.same(next.recreate(source(after, [put(1, 1)])), []);
      t.not(info(root, lru.id).id, id);
    }
  });

  t.test("an inner map is taken where its shape is the template's, and refused where it is not", async (t) => {
    for (const [mapFlags, template, shape, refused] of [
      [OWN_LISTS, "exact", "exact", false],
      [OWN_LISTS, "roomy", "roomy", false],
      [OWN_LISTS, undefined, "roomy", false],
      [0, "exact", "roomy", false],
      [0, "roomy", "exact", false],
      // The ledger refuses these; a log from before it did has them, of maps that were adopted.
      [OWN_LISTS, "exact", "roomy", true],
      [OWN_LISTS, undefined, "exact", true],
    ] as const) {
      const what = `${shape} into ${template}, map_flags ${mapFlags}`;
      const { mirror, root } = opened(t);
      mirror.takeUp([], []);
      const { type, keySize, valueSize, maxEntries, special } = lru;
      const like = { type, keySize, valueSize, maxEntries, special, mapFlags };
      const inner: InnerShape = template === undefined ? like : { ...like, mirrorShape: template };
      const outer: MapRecord = { ...hash, id: 8, type: BPF_MAP_TYPE_HASH_OF_MAPS, valueSize: 4, inner };
      const refusals = mirror.apply([
        { kind: "create", btf: null, map: { ...lru, mapFlags, mirrorShape: shape } },
        { kind: "create", btf: null, map: outer },
        { kind: "elements", map: outer, changes: [{ key: u32(1), value: u32(lru.id) }] },
      ]);
      if (refused) {
        t.match(refusals, [{ mapId: 8, errno: "EINVAL" }], what);
        t.match(mirror.status(8), { state: "failed", errno: "EINVAL" }, "the map says that it is behind");
        continue;
      }
      t.same(refusals, [], what);
      const held = Buffer.alloc(4);
      t.equal(
        through(root, 8, (fd) => bpf.lookup(fd, u32(1), held)),
        0,
      );
      t.equal(held.readUInt32LE(), info(root, lru.id).id);
    }
  });

  t.test(
    "an exact kernel map goes into an outer map that a program has made with the definition asked for",
    async (t) => {
      const { mirror, root } = opened(t);
      mirror.takeUp([], []);
      const map = { ...lru, mapFlags: OWN_LISTS };
      mirror.apply([{ kind: "create", btf: null, map }]);
      const template = bpf.create(map);
      const outer = bpf.create(
        { ...hash, type: BPF_MAP_TYPE_HASH_OF_MAPS, valueSize: 4 },
        { innerMapFd: template, btfFd: 0, btfKeyTypeId: 0, btfValueTypeId: 0 },
      );
      t.teardown(() => {
        for (const fd of [template, outer]) bpf.close(fd);
      });
      t.equal(
        through(root, map.id, (fd) => bpf.update(outer, u32(1), u32(fd))),
        0,
      );
      const roomy = { ...map, id: 9, mirrorShape: "roomy" as const };
      mirror.apply([{ kind: "create", btf: null, map: roomy }]);
      t.equal(
        through(root, 9, (fd) => bpf.update(outer, u32(2), u32(fd))),
        -ERRNO.EINVAL,
      );
    },
  );

  t.test("the kernel evicts from a full exact map, and no refusal comes of it", async (t) => {
    const { mirror, root } = opened(t);
    mirror.takeUp([], []);
    const map = { ...lru, maxEntries: 64 };
    const changes = Array.from({ length: 64 }, (_, at) => put(at, at));
    const created = { kind: "create", btf: null, map } as const;
    t.same(mirror.apply([created, { kind: "elements", map, changes }]), []);
    // Each is one that the ledger evicts: the kernel may have evicted it before.
    for (let at = 64; at < 512; at++) {
      const evicted = { key: u32(at - 64), value: null };
      t.same(mirror.apply([{ kind: "elements", map, changes: [evicted, put(at, at)] }]), []);
    }
    const found = through(root, map.id, (fd) => {
      const value = Buffer.alloc(8);
      return Array.from({ length: 512 }, (_, at) => at).filter((at) => bpf.lookup(fd, u32(at), value) === 0);
    });
    t.ok(
      found.every((at) => at >= 448),
      "the ledger has what the kernel has",
    );
    t.ok(found.length > 0 && found.includes(511));
  });
}

const reason = unfitForKernel();
if (reason !== null) t.pass("bpf(2)", { skip: reason });
else run(openBpf() as Bpf);
