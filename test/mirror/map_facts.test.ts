import t, { type Test } from "tap";
import { BPF_CMD, BPF_F, BPF_MAP_TYPE, type MapTypeName } from "../../src/abi/bpf.ts";
import { errnoName } from "../../src/abi/errno.ts";
import { readHost } from "../../src/host.ts";
import type { MapFacts } from "../../src/maps/map_facts.ts";
import { mapType } from "../../src/maps/types.ts";
import { Guarded } from "../../src/native/guard_pages.ts";
import type { MapShape } from "../../src/native/map_info.ts";
import { openBpf, probe } from "../../src/native/probe.ts";

/** The facts of the map types against the running kernel. */

const reason = probe();
const live = { skip: reason ?? false };
const liveOnSeveral = {
  skip: reason ?? (readHost().possibleCpus === 1 ? "the machine can have one CPU only: a slot is a value" : false),
};

const VALUE_BYTES = 8;
const PLAIN: Omit<MapShape, "type"> = {
  keySize: 4,
  valueSize: VALUE_BYTES,
  maxEntries: 4,
  mapFlags: 0,
  name: "facts",
  mapExtra: 0n,
  numaNode: 0,
};
const LINE = { keySize: 0 };
const BY_CGROUP = { keySize: 8, maxEntries: 0 };
const HOLDER = { valueSize: 4 };

/** What a map of a type is created with: those that need no other map and no BTF. */
const SHAPES: Readonly<Partial<Record<MapTypeName, Partial<MapShape>>>> = {
  BPF_MAP_TYPE_HASH: {},
  BPF_MAP_TYPE_ARRAY: {},
  BPF_MAP_TYPE_PROG_ARRAY: HOLDER,
  BPF_MAP_TYPE_PERF_EVENT_ARRAY: HOLDER,
  BPF_MAP_TYPE_PERCPU_HASH: {},
  BPF_MAP_TYPE_PERCPU_ARRAY: {},
  BPF_MAP_TYPE_STACK_TRACE: {},
  BPF_MAP_TYPE_CGROUP_ARRAY: HOLDER,
  BPF_MAP_TYPE_LRU_HASH: {},
  BPF_MAP_TYPE_LRU_PERCPU_HASH: {},
  BPF_MAP_TYPE_LPM_TRIE: { keySize: 8, mapFlags: BPF_F.BPF_F_NO_PREALLOC },
  BPF_MAP_TYPE_DEVMAP: {},
  BPF_MAP_TYPE_SOCKMAP: {},
  BPF_MAP_TYPE_CPUMAP: { maxEntries: 1 },
  BPF_MAP_TYPE_XSKMAP: HOLDER,
  BPF_MAP_TYPE_SOCKHASH: {},
  BPF_MAP_TYPE_CGROUP_STORAGE: BY_CGROUP,
  BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: {},
  BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: BY_CGROUP,
  BPF_MAP_TYPE_QUEUE: LINE,
  BPF_MAP_TYPE_STACK: LINE,
  BPF_MAP_TYPE_DEVMAP_HASH: {},
  BPF_MAP_TYPE_RINGBUF: { keySize: 0, valueSize: 0, maxEntries: 4096 },
  BPF_MAP_TYPE_BLOOM_FILTER: LINE,
  BPF_MAP_TYPE_USER_RINGBUF: { keySize: 0, valueSize: 0, maxEntries: 4096 },
};

/** A map of each type, by the kernel. */
function* kernelMaps(t: Test) {
  const bpf = openBpf();
  if ("off" in bpf) throw new Error(bpf.off);
  for (const [name, shape] of Object.entries(SHAPES)) {
    const type = BPF_MAP_TYPE[name as MapTypeName];
    const whole = { ...PLAIN, ...shape, type };
    const fd = bpf.create(whole);
    t.ok(fd >= 0, `${name} is created${fd < 0 ? `: ${errnoName(-fd)}` : ""}`);
    yield { bpf, name, fd, shape: whole, facts: mapType(type)?.facts as MapFacts };
    bpf.close(fd);
  }
}

t.test(
  "perCpu: an update reads a slot for each CPU of these types, and one value of all others",
  liveOnSeveral,
  async (t) => {
    for (const { bpf, name, fd, shape, facts } of kernelMaps(t)) {
      if (shape.valueSize === 0) continue;
      const memory = new Guarded(bpf);
      const attr = Buffer.alloc(32);
      attr.writeUInt32LE(fd, 0);
      attr.writeBigUInt64LE(shape.keySize === 0 ? 0n : memory.put("key", Buffer.alloc(shape.keySize)), 8);
      // One slot, and no byte behind it can be read.
      attr.writeBigUInt64LE(memory.put("value", Buffer.alloc(shape.valueSize)), 16);
      const ret = bpf.bpf(BPF_CMD.BPF_MAP_UPDATE_ELEM, attr);
      t.equal(ret < 0 && errnoName(-ret) === "EFAULT", facts.perCpu, name);
    }
  },
);

t.test("inner: the kernel takes these types as templates of maps of maps", live, async (t) => {
  for (const { bpf, name, fd, facts } of kernelMaps(t)) {
    const outer = { ...PLAIN, type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS, valueSize: 4 };
    const made = bpf.create(outer, { innerMapFd: fd, btfFd: 0, btfKeyTypeId: 0, btfValueTypeId: 0 });
    t.equal(made >= 0 ? "made" : errnoName(-made), facts.inner === "never" ? "ENOTSUPP" : "made", name);
    if (made >= 0) bpf.close(made);
  }
});

t.test("mapExtra: the kernel refuses map_extra of all other types", live, async (t) => {
  for (const { bpf, name, shape, facts } of kernelMaps(t)) {
    const fd = bpf.create({ ...shape, mapExtra: 1n });
    t.equal(fd >= 0 ? "made" : errnoName(-fd), facts.mapExtra ? "made" : "EINVAL", name);
    if (fd >= 0) bpf.close(fd);
  }
});

t.test("seeded: BPF_F_ZERO_SEED is for hashes, and bloom filters", live, async (t) => {
  for (const { bpf, name, shape, facts } of kernelMaps(t)) {
    const fd = bpf.create({ ...shape, mapFlags: shape.mapFlags | BPF_F.BPF_F_ZERO_SEED });
    t.equal(fd >= 0, facts.seeded || name === "BPF_MAP_TYPE_BLOOM_FILTER", name);
    if (fd >= 0) bpf.close(fd);
  }
});
