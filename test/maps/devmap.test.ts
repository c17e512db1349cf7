import { HOST } from "../../conformance/service.ts";
import type { Subject } from "../../conformance/subject.ts";
import { BPF_F } from "../../src/abi/bpf.ts";
import { CMD } from "../../src/abi/service.ts";
import { ask, climb, create, infoOf, succeed, u32, update, walk } from "./ladder.ts";
import { climbNoBatches, climbShared } from "./shared_guards.ts";
import { NOT_OPEN, onBoth, onService } from "./subjects.ts";

const DEVMAP = { map_type: "BPF_MAP_TYPE_DEVMAP", key_size: 4, value_size: 8, max_entries: 3 };
const DEVMAP_HASH = { ...DEVMAP, map_type: "BPF_MAP_TYPE_DEVMAP_HASH", max_entries: 2 };
const CPUMAP = { ...DEVMAP, map_type: "BPF_MAP_TYPE_CPUMAP", max_entries: 256 };
const { BPF_F_RDONLY, BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG, BPF_F_NO_PREALLOC, BPF_F_NUMA_NODE, BPF_F_TOKEN_FD } =
  BPF_F;
const [ZERO, ONE, TWO, THREE] = [u32(0), u32(1), u32(2), u32(3)];
/** The interface that every machine has, and one that none has. */
const LO = u32(1);
const NO_INTERFACE = u32(0x7fff_fff0);
const NONE = u32(0);
const XDP = 6;
const [BPF_XDP_DEVMAP, BPF_XDP_CPUMAP] = [33, 35];

function program(subject: Subject, expectedAttachType: number): { fd: number; id: string } {
  const { ret, facts } = succeed(subject.open({ kind: "prog", progType: XDP, expectedAttachType }));
  return { fd: ret, id: u32(facts?.kind === "prog" ? facts.progId : 0) };
}

for (const map of [DEVMAP, DEVMAP_HASH])
  onBoth(`${map.map_type} BPF_MAP_CREATE refuses in the kernel's order`, (t, subject) => {
    const last = { ...map, map_name: "a-b" };
    const token = { ...last, map_flags: BPF_F_TOKEN_FD, map_token_fd: -1 };
    const value = { ...token, value_size: 5 };
    const foreign = { ...value, map_flags: BPF_F_TOKEN_FD | BPF_F_RDONLY_PROG };
    climb(t, subject, "BPF_MAP_CREATE", [
      {
        refuses: "no entries",
        attr: { ...foreign, key_size: 8, value_size: 0, max_entries: 0 },
        errno: "EINVAL",
        detail: /max_entries/,
      },
      { refuses: "a key that is no u32", attr: { ...foreign, key_size: 8 }, errno: "EINVAL", detail: /key_size/ },
      { refuses: "a flag of other types", attr: foreign, errno: "EINVAL", detail: /not among/ },
      { refuses: "neither 4 nor 8 bytes of value", attr: value, errno: "EINVAL", detail: /value_size/ },
      { refuses: "a token that is not open", attr: token, errno: "EBADF", detail: /map_token_fd/ },
      { refuses: "a bad name", attr: last, errno: "EINVAL", detail: /map_name/ },
      { refuses: "a value of 4 bytes", attr: { ...map, value_size: 4 }, errno: null },
    ]);
    const { map_flags } = infoOf(subject, create(subject, { ...map, map_flags: BPF_F_RDONLY }));
    t.equal(map_flags, BPF_F_RDONLY_PROG, "programs may only read it, and the fd's mode is not the map's");
  });

onBoth("BPF_MAP_TYPE_DEVMAP_HASH BPF_MAP_CREATE refuses more entries than it can have buckets", (t, subject) => {
  const most = { ...DEVMAP_HASH, map_flags: BPF_F_TOKEN_FD, map_token_fd: -1 };
  climb(t, subject, "BPF_MAP_CREATE", [
    { refuses: "one too many", attr: { ...most, max_entries: 2 ** 31 + 1 }, errno: "EINVAL", detail: /max_entries/ },
    { refuses: "for its token what it has buckets for", attr: { ...most, max_entries: 2 ** 31 }, errno: "EBADF" },
  ]);
});

onBoth("BPF_MAP_TYPE_CPUMAP BPF_MAP_CREATE refuses in the kernel's order", (t, subject) => {
  const last = { ...CPUMAP, map_name: "a-b" };
  const entries = { ...last, max_entries: 257 };
  const value = { ...entries, value_size: 5 };
  const foreign = { ...value, map_flags: BPF_F_RDONLY };
  const first = { ...foreign, key_size: 8, max_entries: 0 };
  climb(t, subject, "BPF_MAP_CREATE", [
    {
      refuses: "a token that is not open",
      attr: { ...first, map_flags: BPF_F_RDONLY | BPF_F_TOKEN_FD, map_token_fd: -1 },
      errno: "EBADF",
    },
    { refuses: "no entries", attr: first, errno: "EINVAL", detail: /max_entries/ },
    { refuses: "a key that is no u32", attr: { ...foreign, key_size: 8 }, errno: "EINVAL", detail: /key_size/ },
    { refuses: "a descriptor for reading", attr: foreign, errno: "EINVAL", detail: /not among/ },
    { refuses: "neither 4 nor 8 bytes of value", attr: value, errno: "EINVAL", detail: /value_size/ },
    { refuses: "more entries than a kernel has CPUs", attr: entries, errno: "E2BIG", detail: /max_entries/ },
    { refuses: "a bad name", attr: last, errno: "EINVAL", detail: /map_name/ },
    { refuses: "a NUMA node", attr: { ...CPUMAP, map_flags: BPF_F_NUMA_NODE, numa_node: 0 }, errno: null },
  ]);
});

onBoth("BPF_MAP_TYPE_DEVMAP elements are refused in the kernel's order", (t, subject) => {
  climbShared(t, subject, { map: DEVMAP, key: THREE, flags: 3 });
  climbNoBatches(t, subject, DEVMAP);
  const map_fd = create(subject, DEVMAP);
  const wrong = program(subject, BPF_XDP_CPUMAP).fd;
  const pipe = succeed(subject.open({ kind: "pipe" })).ret;
  const value = NO_INTERFACE + u32(NOT_OPEN);
  climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
    { refuses: "BPF_NOEXIST with BPF_EXIST", attr: { map_fd, key: THREE, value, flags: 3 }, errno: "EINVAL" },
    { refuses: "an index outside", attr: { map_fd, key: THREE, value, flags: 1 }, errno: "E2BIG" },
    { refuses: "BPF_NOEXIST, filled or not", attr: { map_fd, key: TWO, value, flags: 1 }, errno: "EEXIST" },
    {
      refuses: "a program without an interface",
      attr: { map_fd, key: TWO, value: NONE + u32(NOT_OPEN) },
      errno: "EINVAL",
      detail: /ifindex is 0/,
    },
    { refuses: "an unknown interface", attr: { map_fd, key: TWO, value }, errno: "EINVAL", detail: /no interface/ },
    {
      refuses: "a program that is not open",
      attr: { map_fd, key: TWO, value: LO + u32(NOT_OPEN) },
      errno: "EINVAL",
      detail: /not open/,
    },
    {
      refuses: "a program that is none",
      attr: { map_fd, key: TWO, value: LO + u32(pipe) },
      errno: "EINVAL",
      detail: /pipe/,
    },
    {
      refuses: "a program for cpumaps",
      attr: { map_fd, key: TWO, value: LO + u32(wrong) },
      errno: "EINVAL",
      detail: /attach type/,
    },
    { refuses: "an empty slot emptied", attr: { map_fd, key: TWO, value: NONE + NONE, flags: 2 }, errno: null },
    {
      refuses: "an interface without a program",
      attr: { map_fd, key: TWO, value: LO + u32(0xffff_ffff) },
      errno: null,
    },
  ]);
  climb(t, subject, "BPF_MAP_LOOKUP_ELEM", [
    { refuses: "an index outside", attr: { map_fd, key: THREE, value: "" }, errno: "ENOENT", detail: /outside/ },
    { refuses: "an empty slot", attr: { map_fd, key: ZERO, value: "" }, errno: "ENOENT", detail: /empty/ },
    { refuses: "no room", attr: { map_fd, key: TWO, value: "00".repeat(7) }, errno: "EFAULT" },
  ]);
  climb(t, subject, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", [
    { refuses: "any slot", attr: { map_fd, key: TWO }, errno: "ENOTSUPP" },
  ]);
  climb(t, subject, "BPF_MAP_DELETE_ELEM", [
    { refuses: "an index outside", attr: { map_fd, key: THREE }, errno: "EINVAL" },
    { refuses: "a filled slot", attr: { map_fd, key: TWO }, errno: null },
    { refuses: "an empty slot", attr: { map_fd, key: TWO }, errno: null },
  ]);
});

onBoth("BPF_MAP_TYPE_DEVMAP_HASH elements are refused in the kernel's order", (t, subject) => {
  climbShared(t, subject, { map: DEVMAP_HASH, key: THREE, flags: 3 });
  climbNoBatches(t, subject, DEVMAP_HASH);
  const map_fd = create(subject, DEVMAP_HASH);
  update(subject, map_fd, ONE, LO + NONE);
  update(subject, map_fd, TWO, LO + NONE);
  const wrong = program(subject, BPF_XDP_CPUMAP).fd;
  const value = NO_INTERFACE + u32(NOT_OPEN);
  climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
    {
      refuses: "BPF_NOEXIST with BPF_EXIST",
      attr: { map_fd, key: ONE, value: NONE + NONE, flags: 3 },
      errno: "EINVAL",
      detail: /flags 3/,
    },
    {
      refuses: "no interface",
      attr: { map_fd, key: ONE, value: NONE + u32(NOT_OPEN), flags: 1 },
      errno: "EINVAL",
      detail: /ifindex is 0/,
    },
    { refuses: "BPF_NOEXIST of a present key", attr: { map_fd, key: ONE, value, flags: 1 }, errno: "EEXIST" },
    { refuses: "an unknown interface", attr: { map_fd, key: THREE, value }, errno: "EINVAL", detail: /no interface/ },
    {
      refuses: "a program that is not open",
      attr: { map_fd, key: THREE, value: LO + u32(NOT_OPEN) },
      errno: "EINVAL",
      detail: /not open/,
    },
    {
      refuses: "a program for cpumaps",
      attr: { map_fd, key: THREE, value: LO + u32(wrong) },
      errno: "EINVAL",
      detail: /attach type/,
    },
    {
      refuses: "a new key for a full map, BPF_EXIST or not",
      attr: { map_fd, key: THREE, value: LO + NONE, flags: 2 },
      errno: "E2BIG",
      detail: /2 of 2/,
    },
    { refuses: "a present key of a full map", attr: { map_fd, key: ONE, value: LO + NONE, flags: 2 }, errno: null },
  ]);
  climb(t, subject, "BPF_MAP_DELETE_ELEM", [
    { refuses: "an absent key", attr: { map_fd, key: THREE }, errno: "ENOENT" },
    { refuses: "a present key", attr: { map_fd, key: ONE }, errno: null },
    { refuses: "the same key again", attr: { map_fd, key: ONE }, errno: "ENOENT" },
  ]);
  climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
    {
      refuses: "BPF_EXIST of an absent key, which adds it",
      attr: { map_fd, key: THREE, value: LO + NONE, flags: 2 },
      errno: null,
    },
  ]);
  climb(t, subject, "BPF_MAP_LOOKUP_ELEM", [
    { refuses: "an absent key", attr: { map_fd, key: ONE, value: "" }, errno: "ENOENT" },
    { refuses: "no room", attr: { map_fd, key: THREE, value: "00".repeat(7) }, errno: "EFAULT" },
  ]);
  climb(t, subject, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", [
    { refuses: "any key", attr: { map_fd, key: THREE }, errno: "ENOTSUPP" },
  ]);
  t.same(
    new Map(walk(subject, map_fd)),
    new Map([
      [TWO, LO + NONE],
      [THREE, LO + NONE],
    ]),
  );
});

onBoth("BPF_MAP_TYPE_CPUMAP elements are refused in the kernel's order", (t, subject) => {
  climbShared(t, subject, { map: CPUMAP, key: u32(256), flags: 3, modes: false });
  climbNoBatches(t, subject, CPUMAP);
  const map_fd = create(subject, CPUMAP);
  const wrong = program(subject, BPF_XDP_DEVMAP).fd;
  const value = u32(16_385) + u32(NOT_OPEN);
  const absent = u32(HOST.possibleCpus);
  climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
    { refuses: "BPF_NOEXIST with BPF_EXIST", attr: { map_fd, key: u32(256), value, flags: 3 }, errno: "EINVAL" },
    { refuses: "an index outside", attr: { map_fd, key: u32(256), value, flags: 1 }, errno: "E2BIG" },
    { refuses: "BPF_NOEXIST, filled or not", attr: { map_fd, key: absent, value, flags: 1 }, errno: "EEXIST" },
    { refuses: "a queue that is too long", attr: { map_fd, key: absent, value }, errno: "EOVERFLOW" },
    {
      refuses: "a CPU that cannot be",
      attr: { map_fd, key: absent, value: u32(16_384) + u32(NOT_OPEN) },
      errno: "ENODEV",
    },
    {
      refuses: "a program that is not open",
      attr: { map_fd, key: ONE, value: u32(8) + u32(NOT_OPEN) },
      errno: "ENOMEM",
      detail: /not open/,
    },
    {
      refuses: "a program for devmaps",
      attr: { map_fd, key: ONE, value: u32(8) + u32(wrong) },
      errno: "ENOMEM",
      detail: /attach type/,
    },
    { refuses: "no queue, whatever its program", attr: { map_fd, key: ONE, value: NONE + u32(NOT_OPEN) }, errno: null },
    { refuses: "a queue without a program", attr: { map_fd, key: ONE, value: u32(8) + NONE, flags: 2 }, errno: null },
  ]);
  climb(t, subject, "BPF_MAP_LOOKUP_ELEM", [
    { refuses: "an index outside", attr: { map_fd, key: u32(256), value: "" }, errno: "ENOENT", detail: /outside/ },
    { refuses: "an empty slot", attr: { map_fd, key: ZERO, value: "" }, errno: "ENOENT", detail: /empty/ },
    { refuses: "no room", attr: { map_fd, key: ONE, value: "00".repeat(7) }, errno: "EFAULT" },
  ]);
  climb(t, subject, "BPF_MAP_DELETE_ELEM", [
    { refuses: "an index outside", attr: { map_fd, key: u32(256) }, errno: "EINVAL" },
    { refuses: "a filled slot", attr: { map_fd, key: ONE }, errno: null },
    { refuses: "an empty slot", attr: { map_fd, key: ONE }, errno: null },
  ]);
});

for (const [map, number, attachType] of [
  [DEVMAP, LO, BPF_XDP_DEVMAP],
  [DEVMAP_HASH, LO, BPF_XDP_DEVMAP],
  [CPUMAP, u32(8), BPF_XDP_CPUMAP],
] as const) {
  onBoth(`${map.map_type} takes a program's descriptor, gives its id, and keeps it`, (t, subject) => {
    const map_fd = create(subject, map);
    const first = program(subject, attachType);
    const second = program(subject, attachType);
    update(subject, map_fd, ONE, number + u32(first.fd));
    subject.close(first.fd);
    const found = (): unknown => ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: ONE });
    t.equal(found(), number + first.id);
    update(subject, map_fd, ONE, number + u32(second.fd));
    subject.close(second.fd);
    t.equal(found(), number + second.id);
    update(subject, map_fd, ONE, number + NONE);
    t.equal(found(), number + NONE);
    update(subject, map_fd, ONE, number + u32(program(subject, attachType).fd));
  });

  onService(`${map.map_type} lets a program go with the last entry that has it`, (t, service) => {
    const map_fd = create(service, { ...map, max_entries: 2 });
    const { fd } = program(service, attachType);
    update(service, map_fd, ZERO, number + u32(fd));
    update(service, map_fd, ONE, number + u32(fd));
    const { outcome } = service.run({ cmd: CMD.OPEN, attr: { kind: "prog", id: 1 } });
    const again = outcome.ret;
    t.ok(again > 0, "a program is found by its id");
    for (const open of [fd, again]) service.close(open);
    const isThere = (): boolean => {
      const { ret, errno } = service.open({ kind: "prog", id: 1 });
      if (errno === null) service.close(ret);
      return errno === null;
    };
    service.bpf({ cmd: "BPF_MAP_DELETE_ELEM", attr: { map_fd, key: ZERO } });
    t.ok(isThere(), "another entry has it");
    update(service, map_fd, ONE, number + NONE);
    t.notOk(isThere(), "replaced");
    const other = program(service, attachType).fd;
    update(service, map_fd, ZERO, number + u32(other));
    service.close(other);
    t.equal(service.open({ kind: "prog", id: 2 }).errno, null);
  });

  onBoth(`${map.map_type} with values of 4 bytes has no programs`, (t, subject) => {
    const map_fd = create(subject, { ...map, value_size: 4 });
    update(subject, map_fd, ONE, number);
    t.equal(ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: ONE }), number);
  });
}

for (const map of [DEVMAP, CPUMAP])
  onBoth(`${map.map_type} GET_NEXT_KEY counts up, whether slots are filled or not`, (t, subject) => {
    const map_fd = create(subject, { ...map, max_entries: 2 });
    const next = (key: string | null): unknown => ask(subject, "BPF_MAP_GET_NEXT_KEY", { map_fd, key });
    t.same([next(null), next(ZERO), next(ONE), next(TWO)], [ZERO, ONE, "ENOENT", ZERO]);
  });

for (const map of [DEVMAP, DEVMAP_HASH])
  onService(`${map.map_type} loses the entries of an interface that is gone`, (t, service) => {
    const interfaces = (...ifindexes: number[]): void => {
      service.run({ cmd: CMD.INTERFACES, attr: { ifindexes } }, 0);
    };
    interfaces(1, 7);
    const map_fd = create(service, map);
    const { fd } = program(service, BPF_XDP_DEVMAP);
    update(service, map_fd, ZERO, LO + NONE);
    update(service, map_fd, ONE, u32(7) + u32(fd));
    service.close(fd);
    interfaces(1);
    t.equal(service.entryCount(map_fd), 1);
    t.equal(ask(service, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: ZERO }), LO + NONE);
    t.equal(ask(service, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: ONE }), "ENOENT");
    t.equal(service.open({ kind: "prog", id: 1 }).errno, "ENOENT", "its program went with it");
    t.equal(ask(service, "BPF_MAP_UPDATE_ELEM", { map_fd, key: ONE, value: u32(7) + NONE }), "EINVAL");
    interfaces(1, 7);
    t.equal(ask(service, "BPF_MAP_UPDATE_ELEM", { map_fd, key: ONE, value: u32(7) + NONE }), null);
  });

onBoth("BPF_MAP_TYPE_DEVMAP takes no flags for programs, NO_PREALLOC neither", (t, subject) => {
  for (const map_flags of [BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG, BPF_F_NO_PREALLOC])
    t.equal(ask(subject, "BPF_MAP_CREATE", { ...DEVMAP, map_flags }), "EINVAL");
});
