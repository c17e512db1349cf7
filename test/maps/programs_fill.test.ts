import { HOST } from "../../conformance/service.ts";
import { BPF_F, BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { ask, climb, create, succeed, u32 } from "./ladder.ts";
import { climbNoBatches, climbShared } from "./shared_guards.ts";
import { NOT_OPEN, onBoth, onService } from "./subjects.ts";

/** Types that only programs fill, or only memory. */
const {
  BPF_F_CLONE,
  BPF_F_LINK,
  BPF_F_MMAPABLE,
  BPF_F_NO_USER_CONV,
  BPF_F_NUMA_NODE,
  BPF_F_RDONLY,
  BPF_F_RDONLY_PROG,
  BPF_F_SEGV_ON_FAULT,
  BPF_F_STACK_BUILD_ID,
  BPF_F_TOKEN_FD,
  BPF_F_VTYPE_BTF_OBJ_FD,
  BPF_F_WRONLY_PROG,
} = BPF_F;
const KEY_8 = "00".repeat(8);

for (const [map_type, most] of [
  ["BPF_MAP_TYPE_CGROUP_STORAGE", 65_407],
  ["BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE", 32_768],
] as const) {
  const STORAGE = { map_type, key_size: 8, value_size: 8, max_entries: 0 };

  onBoth(`${map_type} BPF_MAP_CREATE refuses in the kernel's order`, (t, subject) => {
    const last = { ...STORAGE, map_name: "a-b" };
    const entries = { ...last, max_entries: 1 };
    const both = { ...entries, map_flags: BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG };
    const foreign = { ...both, map_flags: both.map_flags | BPF_F_CLONE };
    const worst = { ...foreign, key_size: 12, value_size: 0 };
    climb(t, subject, "BPF_MAP_CREATE", [
      {
        refuses: "a token that is not open",
        attr: { ...worst, map_flags: foreign.map_flags | BPF_F_TOKEN_FD, map_token_fd: -1 },
        errno: "EBADF",
      },
      { refuses: "a key that is no cgroup's", attr: worst, errno: "EINVAL", detail: /key_size/ },
      { refuses: "no value", attr: { ...foreign, value_size: 0 }, errno: "EINVAL", detail: /value_size/ },
      { refuses: "a value that is too large", attr: { ...foreign, value_size: most + 1 }, errno: "E2BIG" },
      { refuses: "a flag of other types", attr: foreign, errno: "EINVAL", detail: /not among/ },
      { refuses: "both program modes", attr: both, errno: "EINVAL", detail: /BPF_F_RDONLY_PROG excludes/ },
      { refuses: "entries", attr: entries, errno: "EINVAL", detail: /max_entries/ },
      { refuses: "a bad name", attr: last, errno: "EINVAL", detail: /map_name/ },
      {
        refuses: "the largest value, by the longer key",
        attr: { ...STORAGE, key_size: 16, value_size: most },
        errno: null,
      },
    ]);
  });

  onBoth(`${map_type} is empty as long as no program uses it`, (t, subject) => {
    climbShared(t, subject, { map: STORAGE, key: KEY_8, flags: 3 });
    climbNoBatches(t, subject, STORAGE);
    const map_fd = create(subject, STORAGE);
    const value = "11".repeat(8 * HOST.possibleCpus);
    climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
      { refuses: "BPF_NOEXIST with BPF_EXIST", attr: { map_fd, key: KEY_8, value, flags: 3 }, errno: "EINVAL" },
      { refuses: "BPF_NOEXIST", attr: { map_fd, key: KEY_8, value, flags: 1 }, errno: "EINVAL" },
      { refuses: "BPF_EXIST", attr: { map_fd, key: KEY_8, value, flags: 2 }, errno: "ENOENT" },
      { refuses: "BPF_ANY", attr: { map_fd, key: KEY_8, value }, errno: "ENOENT" },
    ]);
    const asked = (cmd: string, key: string | null = KEY_8): unknown => ask(subject, cmd, { map_fd, key });
    t.equal(asked("BPF_MAP_LOOKUP_ELEM"), "ENOENT");
    t.equal(asked("BPF_MAP_DELETE_ELEM"), "EINVAL");
    t.equal(asked("BPF_MAP_GET_NEXT_KEY"), "ENOENT");
    t.equal(asked("BPF_MAP_GET_NEXT_KEY", null), "ENOENT");
    t.equal(asked("BPF_MAP_LOOKUP_AND_DELETE_ELEM"), "ENOTSUPP");
  });
}

const STACKS = { map_type: "BPF_MAP_TYPE_STACK_TRACE", key_size: 4, value_size: 16, max_entries: 5 };

onBoth("BPF_MAP_TYPE_STACK_TRACE BPF_MAP_CREATE refuses in the kernel's order", (t, subject) => {
  const last = { ...STACKS, map_name: "a-b" };
  const entries = { ...last, max_entries: 2 ** 31 + 1 };
  const value = { ...entries, value_size: 12 };
  const worst = { ...value, key_size: 8, max_entries: 0, map_flags: BPF_F_CLONE };
  climb(t, subject, "BPF_MAP_CREATE", [
    {
      refuses: "a token that is not open",
      attr: { ...worst, map_flags: BPF_F_CLONE | BPF_F_TOKEN_FD, map_token_fd: -1 },
      errno: "EBADF",
    },
    { refuses: "a flag of other types", attr: worst, errno: "EINVAL", detail: /not among/ },
    { refuses: "no entries", attr: { ...worst, map_flags: 0 }, errno: "EINVAL", detail: /max_entries/ },
    { refuses: "a key that is no u32", attr: { ...value, key_size: 8 }, errno: "EINVAL", detail: /key_size/ },
    { refuses: "half a frame", attr: value, errno: "EINVAL", detail: /value_size/ },
    { refuses: "no frame", attr: { ...value, value_size: 0 }, errno: "EINVAL", detail: /value_size/ },
    { refuses: "too many frames", attr: { ...value, value_size: 8 * 128 }, errno: "EINVAL", detail: /value_size/ },
    {
      refuses: "half a build id",
      attr: { ...value, value_size: 48, map_flags: BPF_F_STACK_BUILD_ID },
      errno: "EINVAL",
      detail: /value_size/,
    },
    { refuses: "too many entries", attr: entries, errno: "E2BIG", detail: /max_entries/ },
    { refuses: "a bad name", attr: last, errno: "EINVAL", detail: /map_name/ },
    { refuses: "the most frames", attr: { ...STACKS, value_size: 8 * 127 }, errno: null },
    {
      refuses: "the most build ids",
      attr: { ...STACKS, value_size: 32 * 127, map_flags: BPF_F_STACK_BUILD_ID },
      errno: null,
    },
  ]);
});

onBoth("BPF_MAP_TYPE_STACK_TRACE is empty, and its ids end at max_entries rounded up", (t, subject) => {
  climbShared(t, subject, { map: STACKS, key: u32(8), flags: 3 });
  climbNoBatches(t, subject, STACKS);
  const map_fd = create(subject, STACKS);
  for (const flags of [0, 1, 2, 3])
    t.equal(ask(subject, "BPF_MAP_UPDATE_ELEM", { map_fd, key: u32(0), value: "00".repeat(16), flags }), "EINVAL");
  const asked = (cmd: string, key: number): unknown => ask(subject, cmd, { map_fd, key: u32(key) });
  t.same(
    [7, 8].map((id) => asked("BPF_MAP_DELETE_ELEM", id)),
    ["ENOENT", "E2BIG"],
  );
  for (const cmd of ["BPF_MAP_LOOKUP_ELEM", "BPF_MAP_LOOKUP_AND_DELETE_ELEM", "BPF_MAP_GET_NEXT_KEY"])
    t.same(
      [7, 8].map((id) => asked(cmd, id)),
      ["ENOENT", "ENOENT"],
      cmd,
    );
});

for (const map_type of ["BPF_MAP_TYPE_RINGBUF", "BPF_MAP_TYPE_USER_RINGBUF"])
  onBoth(`${map_type} BPF_MAP_CREATE refuses in the kernel's order`, (t, subject) => {
    const ring = { map_type, key_size: 0, value_size: 0, max_entries: 4096 };
    const last = { ...ring, map_name: "a-b" };
    const worst = { ...last, key_size: 4, value_size: 4, max_entries: 0, map_flags: BPF_F_RDONLY };
    climb(t, subject, "BPF_MAP_CREATE", [
      {
        refuses: "a token that is not open",
        attr: { ...worst, map_flags: BPF_F_RDONLY | BPF_F_TOKEN_FD, map_token_fd: -1 },
        errno: "EBADF",
      },
      { refuses: "a descriptor for reading", attr: worst, errno: "EINVAL", detail: /not among/ },
      { refuses: "keys", attr: { ...worst, map_flags: 0 }, errno: "EINVAL", detail: /key_size/ },
      { refuses: "values", attr: { ...last, value_size: 4, max_entries: 0 }, errno: "EINVAL", detail: /value_size/ },
      ...[0, 2048, 4097, 12_288].map((max_entries) => ({
        refuses: `${max_entries} bytes`,
        attr: { ...last, max_entries },
        errno: "EINVAL",
        detail: /max_entries/,
      })),
      { refuses: "a bad name", attr: last, errno: "EINVAL", detail: /map_name/ },
      { refuses: "two pages on a node", attr: { ...ring, max_entries: 8192, map_flags: BPF_F_NUMA_NODE }, errno: null },
    ]);
  });

const ARENA = {
  map_type: "BPF_MAP_TYPE_ARENA",
  key_size: 0,
  value_size: 0,
  max_entries: 2,
  map_flags: BPF_F_MMAPABLE,
};

onBoth("BPF_MAP_TYPE_ARENA BPF_MAP_CREATE refuses in the kernel's order", (t, subject) => {
  const last = { ...ARENA, map_name: "a-b" };
  const crossing = { ...last, map_extra: 2 ** 32 - 4096 };
  const large = { ...last, map_extra: 2 ** 32 + 4096, max_entries: 2 ** 20 + 1 };
  const crooked = { ...large, map_extra: 2 ** 32 - 1 };
  const memoryless = { ...crooked, map_flags: 0 };
  const foreign = { ...memoryless, map_flags: BPF_F_CLONE };
  const worst = { ...foreign, key_size: 4, value_size: 4, max_entries: 0 };
  climb(t, subject, "BPF_MAP_CREATE", [
    {
      refuses: "a token that is not open",
      attr: { ...worst, map_flags: BPF_F_CLONE | BPF_F_TOKEN_FD, map_token_fd: -1 },
      errno: "EBADF",
    },
    { refuses: "keys", attr: worst, errno: "EINVAL", detail: /key_size/ },
    { refuses: "values", attr: { ...worst, key_size: 0 }, errno: "EINVAL", detail: /value_size/ },
    { refuses: "no pages", attr: { ...foreign, max_entries: 0 }, errno: "EINVAL", detail: /max_entries/ },
    { refuses: "a flag of other types", attr: foreign, errno: "EINVAL", detail: /not among/ },
    { refuses: "no memory", attr: memoryless, errno: "EINVAL", detail: /BPF_F_MMAPABLE/ },
    { refuses: "an address within a page", attr: crooked, errno: "EINVAL", detail: /map_extra/ },
    { refuses: "more than 4 GiB", attr: large, errno: "E2BIG", detail: /max_entries/ },
    { refuses: "what crosses a multiple of 4 GiB", attr: crossing, errno: "ERANGE" },
    { refuses: "a bad name", attr: last, errno: "EINVAL", detail: /map_name/ },
    {
      refuses: "an arena by its own rules",
      attr: { ...ARENA, map_flags: BPF_F_MMAPABLE | BPF_F_SEGV_ON_FAULT | BPF_F_NO_USER_CONV },
      errno: null,
    },
  ]);
});

for (const [map, lookup, others] of [
  [{ map_type: "BPF_MAP_TYPE_RINGBUF", max_entries: 4096 }, "ENOTSUPP", "ENOTSUPP"],
  [{ map_type: "BPF_MAP_TYPE_USER_RINGBUF", max_entries: 4096 }, "ENOTSUPP", "ENOTSUPP"],
  [ARENA, "EINVAL", "EOPNOTSUPP"],
] as const)
  onBoth(`${map.map_type} has no elements, and says so behind the guards that all maps share`, (t, subject) => {
    climbNoBatches(t, subject, map);
    const map_fd = create(subject, map);
    const key = u32(0);
    for (const [cmd, errno] of [
      ["BPF_MAP_LOOKUP_ELEM", lookup],
      ["BPF_MAP_UPDATE_ELEM", others],
      ["BPF_MAP_DELETE_ELEM", others],
      ["BPF_MAP_GET_NEXT_KEY", others],
      ["BPF_MAP_LOOKUP_AND_DELETE_ELEM", "ENOTSUPP"],
    ] as const)
      climb(t, subject, cmd, [
        { refuses: "a descriptor that is not open", attr: { map_fd: NOT_OPEN, key }, errno: "EBADF" },
        { refuses: "a key", attr: { map_fd, key }, errno: "EINVAL", detail: /key must be null/ },
        { refuses: "whatever it is", attr: { map_fd }, errno },
      ]);
    succeed(subject.bpf({ cmd: "BPF_MAP_FREEZE", attr: { map_fd } }));
    t.equal(ask(subject, "BPF_MAP_UPDATE_ELEM", { map_fd }), "EPERM", "frozen");
  });

onBoth("BPF_MAP_TYPE_STRUCT_OPS BPF_MAP_CREATE refuses in the kernel's order", (t, subject) => {
  const STRUCT = { map_type: "BPF_MAP_TYPE_STRUCT_OPS", key_size: 4, value_size: 256, max_entries: 1 };
  const pipe = succeed(subject.open({ kind: "pipe" })).ret;
  // Type 1 of a kernel's own BTF is an integer.
  const last = { ...STRUCT, btf_vmlinux_value_type_id: 1, map_name: "a-b" };
  const module = { ...last, map_flags: BPF_F_VTYPE_BTF_OBJ_FD, value_type_btf_obj_fd: NOT_OPEN };
  const token = { ...module, map_flags: module.map_flags | BPF_F_TOKEN_FD, map_token_fd: -1 };
  const typeless = { ...token, btf_vmlinux_value_type_id: 0 };
  const foreign = { ...typeless, max_entries: 2, map_flags: token.map_flags | BPF_F_CLONE };
  climb(t, subject, "BPF_MAP_CREATE", [
    {
      refuses: "a type of its own beside others",
      attr: { ...foreign, key_size: 8, btf_vmlinux_value_type_id: 1, btf_value_type_id: 1 },
      errno: "EINVAL",
      detail: /excludes/,
    },
    {
      refuses: "a type of its own beside a key's",
      attr: { ...foreign, key_size: 8, btf_vmlinux_value_type_id: 1, btf_key_type_id: 1 },
      errno: "EINVAL",
      detail: /excludes/,
    },
    { refuses: "a key that is no u32", attr: { ...foreign, key_size: 8 }, errno: "EINVAL", detail: /key_size/ },
    { refuses: "a flag of other types", attr: foreign, errno: "EINVAL", detail: /not among/ },
    { refuses: "two elements", attr: { ...typeless, max_entries: 2 }, errno: "EINVAL", detail: /max_entries/ },
    { refuses: "no type", attr: typeless, errno: "EINVAL", detail: /btf_vmlinux_value_type_id is 0/ },
    { refuses: "a token that is not open", attr: token, errno: "EBADF", detail: /map_token_fd/ },
    { refuses: "a module's BTF that is not open", attr: module, errno: "EBADF" },
    { refuses: "a module's BTF that is a pipe", attr: { ...module, value_type_btf_obj_fd: pipe }, errno: "EINVAL" },
    { refuses: "a type that is no struct of functions", attr: { ...last, map_flags: BPF_F_LINK }, errno: "ENOTSUPP" },
  ]);
});

onService("what exists inside a kernel only says so", (t, service) => {
  const struct_ops = { map_type: BPF_MAP_TYPE.BPF_MAP_TYPE_STRUCT_OPS, key_size: 4, value_size: 256, max_entries: 1 };
  const refused = service.bpf({ cmd: "BPF_MAP_CREATE", attr: { ...struct_ops, btf_vmlinux_value_type_id: 5 } });
  t.match(refused, { errno: "ENOTSUPP", detail: /inside a kernel only/ });
  const ring = create(service, { map_type: "BPF_MAP_TYPE_RINGBUF", max_entries: 4096 });
  t.equal(service.readMemory(ring, 0, 8).errno, "ENOTSUPP");
  t.match(service.bpf({ cmd: "BPF_PROG_LOAD", attr: {} }), { errno: "EINVAL", detail: /inside a kernel only/ });
});
