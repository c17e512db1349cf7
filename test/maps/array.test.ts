import t from "tap";
import { Service } from "../../conformance/service.ts";
import { BPF_F, BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { ERRNO } from "../../src/abi/errno.ts";
import { CMD } from "../../src/abi/service.ts";
import { createAttr, HOST } from "../support/commands.ts";
import { climb, create, split, succeed, u32, update, walk } from "./ladder.ts";

const ARRAY = { map_type: "BPF_MAP_TYPE_ARRAY", key_size: 4, value_size: 4, max_entries: 3 };
const {
  BPF_F_RDONLY,
  BPF_F_WRONLY,
  BPF_F_RDONLY_PROG,
  BPF_F_WRONLY_PROG,
  BPF_F_NO_PREALLOC,
  BPF_F_MMAPABLE,
  BPF_F_TOKEN_FD,
} = BPF_F;

t.test("BPF_MAP_TYPE_ARRAY BPF_MAP_CREATE refuses in the kernel's order", async (t) => {
  const large = { ...ARRAY, value_size: 0x80000000, map_flags: BPF_F_TOKEN_FD, map_token_fd: -1, map_name: "a-b" };
  const both = BPF_F_TOKEN_FD | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;
  const flags = both | BPF_F_NO_PREALLOC;
  climb(t, new Service(), "BPF_MAP_CREATE", [
    {
      refuses: "no entries",
      attr: { ...large, key_size: 0, value_size: 0, max_entries: 0, map_flags: flags },
      errno: "EINVAL",
      detail: /max_entries/,
    },
    {
      refuses: "a key that is no u32",
      attr: { ...large, key_size: 8, value_size: 0, map_flags: flags },
      errno: "EINVAL",
      detail: /key_size/,
    },
    { refuses: "no value", attr: { ...large, value_size: 0, map_flags: flags }, errno: "EINVAL", detail: /value_size/ },
    {
      refuses: "a flag of other types",
      attr: { ...large, map_flags: flags },
      errno: "EINVAL",
      detail: /not among/,
    },
    {
      refuses: "both program modes",
      attr: { ...large, map_flags: both },
      errno: "EINVAL",
      detail: /BPF_F_RDONLY_PROG excludes/,
    },
    { refuses: "a value that is too large", attr: large, errno: "E2BIG", detail: /value_size/ },
    { refuses: "a token that is not open", attr: { ...large, value_size: 4 }, errno: "EBADF" },
    { refuses: "a bad name", attr: { ...large, value_size: 4, map_flags: 0 }, errno: "EINVAL", detail: /map_name/ },
    { refuses: "an array that can be mapped", attr: { ...ARRAY, map_flags: BPF_F_MMAPABLE }, errno: null },
  ]);
});

t.test("BPF_MAP_TYPE_ARRAY elements are refused in the kernel's order", async (t) => {
  const service = new Service();
  const map_fd = create(service, ARRAY);
  const pipe = service.open({ kind: "pipe" }).ret;
  const readonly = create(service, { ...ARRAY, map_flags: BPF_F_RDONLY });
  const writeonly = create(service, { ...ARRAY, map_flags: BPF_F_WRONLY });
  climb(t, service, "BPF_MAP_UPDATE_ELEM", [
    { refuses: "a descriptor that is not open", attr: { map_fd: -1, flags: 7 }, errno: "EBADF" },
    { refuses: "a descriptor of something else", attr: { map_fd: pipe, flags: 7 }, errno: "EINVAL", detail: /pipe/ },
    { refuses: "a descriptor for reading", attr: { map_fd: readonly, flags: 7 }, errno: "EPERM" },
    { refuses: "BPF_F_LOCK", attr: { map_fd, flags: 7 }, errno: "EINVAL", detail: /BPF_F_LOCK/ },
    { refuses: "a null key", attr: { map_fd, flags: 3 }, errno: "EFAULT", detail: /key/ },
    { refuses: "a null value", attr: { map_fd, key: u32(3), flags: 3 }, errno: "EFAULT", detail: /value/ },
    {
      refuses: "BPF_NOEXIST with BPF_EXIST",
      attr: { map_fd, key: u32(3), value: "11111111", flags: 3 },
      errno: "EINVAL",
      detail: /flags 3/,
    },
    {
      refuses: "flags beyond 32 bits",
      attr: { map_fd, key: u32(3), value: "11111111", flags: "0x100000000" },
      errno: "EINVAL",
    },
    {
      refuses: "an index outside, with BPF_NOEXIST",
      attr: { map_fd, key: u32(3), value: "11111111", flags: 1 },
      errno: "E2BIG",
    },
    { refuses: "BPF_NOEXIST inside", attr: { map_fd, key: u32(2), value: "11111111", flags: 1 }, errno: "EEXIST" },
    { refuses: "BPF_EXIST inside", attr: { map_fd, key: u32(2), value: "11111111", flags: 2 }, errno: null },
  ]);
  climb(t, service, "BPF_MAP_LOOKUP_ELEM", [
    { refuses: "a descriptor for writing", attr: { map_fd: writeonly }, errno: "EPERM" },
    { refuses: "an index outside, with or without room", attr: { map_fd, key: u32(3), value: "" }, errno: "ENOENT" },
    { refuses: "an index inside without room", attr: { map_fd, key: u32(2), value: "000000" }, errno: "EFAULT" },
  ]);
  climb(t, service, "BPF_MAP_DELETE_ELEM", [
    { refuses: "a descriptor for reading", attr: { map_fd: readonly }, errno: "EPERM" },
    { refuses: "a null key", attr: { map_fd }, errno: "EFAULT" },
    { refuses: "an index outside", attr: { map_fd, key: u32(3) }, errno: "EINVAL" },
    { refuses: "an index inside", attr: { map_fd, key: u32(2) }, errno: "EINVAL" },
  ]);
  climb(t, service, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", [
    { refuses: "a descriptor for writing", attr: { map_fd: writeonly }, errno: "EPERM" },
    { refuses: "a null key", attr: { map_fd }, errno: "EFAULT" },
    { refuses: "any index", attr: { map_fd, key: u32(2) }, errno: "ENOTSUPP" },
  ]);
  for (const cmd of ["BPF_MAP_DELETE_BATCH", "BPF_MAP_LOOKUP_AND_DELETE_BATCH"])
    climb(t, service, cmd, [
      { refuses: "a descriptor for reading", attr: { map_fd: readonly, elem_flags: 1 }, errno: "EPERM" },
      { refuses: "arrays, whatever else is wrong", attr: { map_fd, elem_flags: 1, count: 0 }, errno: "ENOTSUPP" },
    ]);
  t.same(walk(service, map_fd).at(-1), [u32(2), "11111111"]);
});

t.test("BPF_MAP_TYPE_ARRAY has every index from the start, all of them zeros", async (t) => {
  const service = new Service();
  const max_entries = 2 ** 20;
  const map_fd = create(service, { ...ARRAY, value_size: 12, max_entries });
  const zeros = "00".repeat(12);
  update(service, map_fd, u32(70_000), "ab".repeat(12));
  for (const [index, value] of [
    [0, zeros],
    [69_999, zeros],
    [70_000, "ab".repeat(12)],
    [max_entries - 1, zeros],
  ] as const)
    t.equal(
      service.bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd, key: u32(index) } }).attr.value,
      value,
      `index ${index}`,
    );
  const batch = succeed(
    service.bpf({ cmd: "BPF_MAP_LOOKUP_BATCH", attr: { map_fd, count: 3, in_batch: u32(69_998) } }),
  ).attr;
  t.same(split(batch.values, 12), [zeros, "ab".repeat(12), zeros]);
  t.equal(batch.out_batch, u32(70_001));
  const { state, fold } = service.cells();
  t.same(fold, state);
  t.ok(Object.keys(state).length < 20, "and holds what was written only");
});

t.test("BPF_MAP_TYPE_ARRAY GET_NEXT_KEY counts up, and starts again from outside", async (t) => {
  const service = new Service();
  const map_fd = create(service, ARRAY);
  for (const [key, errno, next] of [
    [null, null, 0],
    [u32(0), null, 1],
    [u32(1), null, 2],
    [u32(2), "ENOENT", null],
    [u32(3), null, 0],
    [u32(0xffffffff), null, 0],
  ] as const) {
    const answer = service.bpf({ cmd: "BPF_MAP_GET_NEXT_KEY", attr: { map_fd, key } });
    t.same([answer.errno, answer.attr.next_key], [errno, next === null ? undefined : u32(next)], `after ${key}`);
  }
});

t.test("BPF_MAP_TYPE_ARRAY lookup batches succeed at the last element and say ENOENT behind it", async (t) => {
  const service = new Service();
  const map_fd = create(service, ARRAY);
  for (const [count, in_batch, errno, keys] of [
    [2, null, null, [0, 1]],
    [2, u32(1), "ENOENT", [2]],
    [1, u32(1), null, [2]],
    [1, u32(2), "ENOENT", []],
    [3, null, null, [0, 1, 2]],
    [4, null, "ENOENT", [0, 1, 2]],
    [1, u32(9), null, [0]],
  ] as const) {
    const answer = service.bpf({ cmd: "BPF_MAP_LOOKUP_BATCH", attr: { map_fd, count, in_batch } });
    t.same([answer.errno, split(answer.attr.keys, 4)], [errno, keys.map(u32)], `${count} from ${in_batch}`);
    t.equal(answer.attr.count, keys.length);
    const last = keys.at(-1);
    t.equal(
      answer.attr.out_batch,
      last === undefined ? undefined : u32(last),
      "the position is the last key that was visited",
    );
  }
  const lost = service.bpf({ cmd: "BPF_MAP_LOOKUP_BATCH", attr: { map_fd, count: 2, out_batch: "000000" } });
  t.same([lost.errno, lost.attr], ["EFAULT", { count: 2 }], "count is set before the position is written");
});

t.test("BPF_OBJ_GET_INFO_BY_FD refuses in the kernel's order", async (t) => {
  const service = new Service();
  const bpf_fd = create(service, ARRAY);
  const pipe = service.open({ kind: "pipe" }).ret;
  const junk = "a5";
  climb(t, service, "BPF_OBJ_GET_INFO_BY_FD", [
    { refuses: "a descriptor that is not open", attr: { bpf_fd: 99, info_len: 4097, info: "" }, errno: "EBADFD" },
    { refuses: "a descriptor of something else", attr: { bpf_fd: pipe, info_len: 4097, info: "" }, errno: "EINVAL" },
    { refuses: "more than a page", attr: { bpf_fd, info_len: 4097, info: "" }, errno: "E2BIG", detail: /info_len/ },
    {
      refuses: "something behind the last field, though the buffer is short",
      attr: { bpf_fd, info_len: 104, info: junk.repeat(103) },
      errno: "E2BIG",
      detail: /byte 100/,
    },
    { refuses: "a buffer that is short", attr: { bpf_fd, info_len: 100, info: junk.repeat(99) }, errno: "EFAULT" },
    {
      refuses: "a hash without a place for it",
      attr: { bpf_fd, info_len: 100, info: "00".repeat(96) + u32(32) },
      errno: "EINVAL",
      detail: /hash_size/,
    },
    {
      refuses: "the digest of what may still change",
      attr: { bpf_fd, info_len: 100, info: `${"00".repeat(88)}0100000000000000${u32(32)}` },
      errno: "EPERM",
    },
  ]);
});

t.test(
  "a value is no larger than the service's setting allows, those of all CPUs together; an adopted one is as it is",
  (t) => {
    const service = new Service({}, { ...HOST, possibleCpus: 4, valueBytesMax: 64 });
    const make = (mapType: number, valueSize: number, adopted?: number): unknown =>
      service.run({
        cmd: CMD.BPF_MAP_CREATE,
        attr: createAttr({ mapType, valueSize, ...(adopted !== undefined && { adopted }) }),
      }).outcome;
    const { BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_PERCPU_ARRAY } = BPF_MAP_TYPE;
    t.match(make(BPF_MAP_TYPE_ARRAY, 65), {
      errno: ERRNO.E2BIG,
      detail: "a value has 65 bytes: more than the 64 that MAPLEDGER_VALUE_MAX allows",
    });
    t.match(make(BPF_MAP_TYPE_ARRAY, 64), { errno: 0 });
    t.match(make(BPF_MAP_TYPE_PERCPU_ARRAY, 17), { errno: ERRNO.E2BIG, detail: /a value has 96 bytes/ });
    t.match(make(BPF_MAP_TYPE_PERCPU_ARRAY, 16), { errno: 0 });
    t.match(make(BPF_MAP_TYPE_ARRAY, 65, 7), { errno: 0 });
    t.end();
  },
);
