import type { Service } from "../../conformance/service.ts";
import { BPF_F } from "../../src/abi/bpf.ts";
import { CMD } from "../../src/abi/service.ts";
import { create, split, succeed, u32, u64, update, walk } from "./ladder.ts";
import { onService } from "./subjects.ts";

/** Pages of elements, `limit` each: what mapledger shows of a map must be what its lookups answer. */
function pages(service: Service, fd: number, limit: number): [key: string, value: string][] {
  const found: [string, string][] = [];
  for (let after: Buffer | null = null; ; ) {
    const target = { by: "fd", fd } as const;
    const { outcome } = service.run({ cmd: CMD.MAP_ELEMENTS, target, attr: { after, limit } });
    const { count = 0, more } = outcome.out ?? {};
    const [keys, values] = [outcome.key, outcome.value].map((bytes) => bytes?.toString("hex") ?? "");
    const [keyBytes, valueBytes] = [outcome.key, outcome.value].map((bytes) => (bytes?.length ?? 0) / count);
    const its = split(keys, keyBytes as number);
    const theirs = split(values, valueBytes as number);
    for (let at = 0; at < count; at++) found.push([its[at] as string, theirs[at] as string]);
    if (more !== true) return found;
    after = Buffer.from(its.at(-1) as string, "hex");
  }
}

/** Values that go in, and the number of CPUs that each is for. */
const MAP = { key_size: 4, value_size: 8, max_entries: 8 };
const INNER = { ...MAP, map_type: "BPF_MAP_TYPE_ARRAY" };
const KEYS = [5, 0, 7].map(u32);

type Values = (service: Service) => readonly string[];
const plain: Values = () => ["11", "22", "33"].map((byte) => byte.repeat(8));
const perCpu: Values = () => ["11", "22", "33"].map((byte) => byte.repeat(16));
const sockets: Values = (service) =>
  KEYS.map(() => u64(BigInt(succeed(service.open({ kind: "udp_bound", reuseport: true })).ret)));
const programs: Values = (service) => {
  const prog = (): number => succeed(service.open({ kind: "prog", progType: 6, expectedAttachType: 33 })).ret;
  prog();
  return KEYS.map(() => u32(prog()));
};
const devices: Values = (service) => programs(service).map((program) => u32(1) + program);
const inner: Values = (service) => KEYS.map(() => u32(create(service, INNER)));

for (const [type, values, more] of [
  ["HASH", plain, {}],
  ["ARRAY", plain, {}],
  ["PERCPU_HASH", perCpu, {}],
  ["PERCPU_ARRAY", perCpu, {}],
  ["LRU_HASH", plain, {}],
  ["LRU_PERCPU_HASH", perCpu, {}],
  ["DEVMAP", devices, {}],
  ["DEVMAP_HASH", devices, {}],
  ["PROG_ARRAY", programs, { value_size: 4 }],
  ["ARRAY_OF_MAPS", inner, { value_size: 4, inner_map_fd: true }],
  ["HASH_OF_MAPS", inner, { value_size: 4, inner_map_fd: true }],
  ["SOCKMAP", sockets, {}],
  ["SOCKHASH", sockets, {}],
  ["REUSEPORT_SOCKARRAY", sockets, {}],
] as const)
  onService(`BPF_MAP_TYPE_${type} shows as its elements what lookups answer`, (t, service) => {
    // So that ids of objects are none of programs' ids, and no cookies.
    succeed(service.open({ kind: "pipe" }));
    const template = "inner_map_fd" in more ? { inner_map_fd: create(service, INNER) } : {};
    const fd = create(service, { ...MAP, map_type: `BPF_MAP_TYPE_${type}`, ...more, ...template });
    t.same(
      pages(service, fd, 100).filter(([, value]) => !/^0+$/.test(value)),
      [],
      "none yet",
    );
    for (const [at, value] of values(service).entries()) update(service, fd, KEYS[at] as string, value);
    const answered = walk(service, fd).filter(([, value]) => value !== undefined);
    for (const limit of [1, 2, 3, 100]) t.same(pages(service, fd, limit), answered, `${limit} at a time`);
  });

onService("BPF_MAP_TYPE_LPM_TRIE shows its elements in the order of its walk", (t, service) => {
  const trie = { ...MAP, map_type: "BPF_MAP_TYPE_LPM_TRIE", key_size: 8, map_flags: BPF_F.BPF_F_NO_PREALLOC };
  const fd = create(service, trie);
  for (const [bits, data] of [
    [8, "0a000000"],
    [24, "0a0102ff"],
    [0, "00000000"],
  ] as const)
    update(service, fd, u32(bits) + data, "11".repeat(8));
  for (const limit of [1, 2, 100]) t.same(pages(service, fd, limit), walk(service, fd));
});

for (const [type, kind] of [
  ["PERF_EVENT_ARRAY", "perf_event"],
  ["CGROUP_ARRAY", "cgroup"],
  ["XSKMAP", "xsk"],
  ["SOCKMAP", "udp_bound"],
  ["SOCKHASH", "udp_bound"],
] as const)
  onService(`BPF_MAP_TYPE_${type} shows the object's id where lookups are refused for good`, (t, service) => {
    const fd = create(service, { ...MAP, map_type: `BPF_MAP_TYPE_${type}`, value_size: 4 });
    const expected = KEYS.map((key) => {
      const { ret, facts } = succeed(service.open({ kind }));
      update(service, fd, key, u32(ret));
      return [key, u32((facts as unknown as { id: number }).id)];
    });
    for (const limit of [1, 2, 100])
      t.same(new Map(pages(service, fd, limit)), new Map(expected as [string, string][]));
  });

for (const type of ["QUEUE", "STACK"])
  onService(`BPF_MAP_TYPE_${type} shows its values, the oldest first`, (t, service) => {
    const fd = create(service, { ...MAP, map_type: `BPF_MAP_TYPE_${type}`, key_size: 0, max_entries: 3 });
    const all = ["11", "22", "33", "44"].map((byte) => byte.repeat(8));
    for (const value of all)
      succeed(service.bpf({ cmd: "BPF_MAP_UPDATE_ELEM", attr: { map_fd: fd, value, flags: 2 } }));
    for (const limit of [1, 2, 100])
      t.same(
        pages(service, fd, limit).map(([, value]) => value),
        all.slice(1),
      );
  });

onService("BPF_MAP_TYPE_BLOOM_FILTER shows what was added, each once", (t, service) => {
  const fd = create(service, { ...MAP, map_type: "BPF_MAP_TYPE_BLOOM_FILTER", key_size: 0 });
  for (const value of [...plain(service), ...plain(service)]) update(service, fd, null, value);
  for (const limit of [1, 2, 100])
    t.same(
      pages(service, fd, limit)
        .map(([, value]) => value)
        .sort(),
      plain(service),
    );
});
