import { HOST } from "../../conformance/service.ts";
import { BPF_F } from "../../src/abi/bpf.ts";
import { ask, climb, create, split, succeed, u32, update, walk } from "./ladder.ts";
import { climbShared } from "./shared_guards.ts";
import { onBoth } from "./subjects.ts";

const HASH = { map_type: "BPF_MAP_TYPE_PERCPU_HASH", key_size: 4, value_size: 5, max_entries: 2 };
const ARRAY = { ...HASH, map_type: "BPF_MAP_TYPE_PERCPU_ARRAY", max_entries: 3 };
const {
  BPF_F_NO_COMMON_LRU,
  BPF_F_NO_PREALLOC,
  BPF_F_NUMA_NODE,
  BPF_F_RDONLY_PROG,
  BPF_F_WRONLY_PROG,
  BPF_F_TOKEN_FD,
  BPF_F_CLONE,
  BPF_F_MMAPABLE,
} = BPF_F;
const [ONE, TWO, THREE] = [u32(1), u32(2), u32(3)];

/** A slot of eight bytes a CPU, for five of value: each CPU's own, padding included. */
function slots(byte: number): string {
  return Array.from({ length: HOST.possibleCpus }, (_, cpu) => (byte + cpu).toString(16).repeat(16)).join("");
}
const ZEROS = "00".repeat(8 * HOST.possibleCpus);

onBoth("BPF_MAP_TYPE_PERCPU_HASH BPF_MAP_CREATE refuses in the kernel's order", (t, subject) => {
  const last = { ...HASH, max_entries: 2 ** 27 + 1, map_name: "a-b" };
  const token = { ...last, map_flags: BPF_F_TOKEN_FD, map_token_fd: -1 };
  const large = { ...token, value_size: 32_769 };
  const none = { ...large, key_size: 0, value_size: 0, max_entries: 0 };
  const node = { ...none, map_flags: BPF_F_TOKEN_FD | BPF_F_NUMA_NODE, numa_node: 0 };
  const lru = { ...node, map_flags: node.map_flags | BPF_F_NO_COMMON_LRU };
  const both = { ...lru, map_flags: lru.map_flags | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG };
  climb(t, subject, "BPF_MAP_CREATE", [
    {
      refuses: "a flag of other types",
      attr: { ...both, map_flags: both.map_flags | BPF_F_CLONE },
      errno: "EINVAL",
      detail: /not among/,
    },
    { refuses: "both program modes", attr: both, errno: "EINVAL", detail: /BPF_F_RDONLY_PROG excludes/ },
    { refuses: "a flag of LRU maps", attr: lru, errno: "EINVAL", detail: /BPF_F_NO_COMMON_LRU/ },
    { refuses: "a NUMA node", attr: node, errno: "EINVAL", detail: /one NUMA node/ },
    { refuses: "no entries", attr: none, errno: "EINVAL", detail: /max_entries/ },
    { refuses: "no key", attr: { ...none, max_entries: last.max_entries }, errno: "EINVAL", detail: /key_size/ },
    { refuses: "no value", attr: { ...large, value_size: 0 }, errno: "EINVAL", detail: /value_size/ },
    { refuses: "a value that is too large", attr: large, errno: "E2BIG", detail: /value_size/ },
    { refuses: "an element that is too large", attr: { ...large, key_size: 4_194_252 }, errno: "E2BIG" },
    { refuses: "a token that is not open", attr: token, errno: "EBADF", detail: /map_token_fd/ },
    { refuses: "too many entries", attr: last, errno: "E2BIG", detail: /max_entries/ },
    { refuses: "a bad name", attr: { ...HASH, map_name: "a-b" }, errno: "EINVAL", detail: /map_name/ },
    { refuses: "any NUMA node", attr: { ...HASH, map_flags: BPF_F_NUMA_NODE, numa_node: -1 }, errno: null },
    { refuses: "the largest value", attr: { ...HASH, value_size: 32_768, max_entries: 1 }, errno: null },
    { refuses: "a hash that grows", attr: { ...HASH, map_flags: BPF_F_NO_PREALLOC }, errno: null },
  ]);
});

onBoth("BPF_MAP_TYPE_PERCPU_ARRAY BPF_MAP_CREATE refuses in the kernel's order", (t, subject) => {
  const last = { ...ARRAY, map_name: "a-b" };
  const token = { ...last, map_flags: BPF_F_TOKEN_FD, map_token_fd: -1 };
  const large = { ...token, value_size: 32_769 };
  const node = { ...large, map_flags: BPF_F_TOKEN_FD | BPF_F_NUMA_NODE, numa_node: 0 };
  const both = { ...node, map_flags: node.map_flags | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG };
  const foreign = { ...both, map_flags: both.map_flags | BPF_F_MMAPABLE };
  climb(t, subject, "BPF_MAP_CREATE", [
    {
      refuses: "no entries",
      attr: { ...foreign, key_size: 8, value_size: 0, max_entries: 0 },
      errno: "EINVAL",
      detail: /max_entries/,
    },
    {
      refuses: "a key that is no u32",
      attr: { ...foreign, key_size: 8, value_size: 0 },
      errno: "EINVAL",
      detail: /key_size/,
    },
    { refuses: "no value", attr: { ...foreign, value_size: 0 }, errno: "EINVAL", detail: /value_size/ },
    { refuses: "a flag of plain arrays", attr: foreign, errno: "EINVAL", detail: /not among/ },
    { refuses: "both program modes", attr: both, errno: "EINVAL", detail: /BPF_F_RDONLY_PROG excludes/ },
    { refuses: "a NUMA node", attr: node, errno: "EINVAL", detail: /one NUMA node/ },
    { refuses: "a value that is too large", attr: large, errno: "E2BIG", detail: /value_size/ },
    { refuses: "a token that is not open", attr: token, errno: "EBADF" },
    { refuses: "a bad name", attr: last, errno: "EINVAL", detail: /map_name/ },
    { refuses: "the largest value", attr: { ...ARRAY, value_size: 32_768, max_entries: 1 }, errno: null },
  ]);
});

onBoth("BPF_MAP_TYPE_PERCPU_HASH elements are refused in the kernel's order", (t, subject) => {
  climbShared(t, subject, { map: HASH, key: THREE, flags: 3 });
  const map_fd = create(subject, HASH);
  update(subject, map_fd, ONE, slots(1));
  update(subject, map_fd, TWO, slots(3));
  const value = slots(5);
  climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
    {
      refuses: "a value for one CPU less",
      attr: { map_fd, key: THREE, value: value.slice(16), flags: 3 },
      errno: "EFAULT",
    },
    { refuses: "BPF_NOEXIST with BPF_EXIST", attr: { map_fd, key: THREE, value, flags: 3 }, errno: "EINVAL" },
    { refuses: "flags beyond 32 bits", attr: { map_fd, key: THREE, value, flags: "0x100000000" }, errno: "EINVAL" },
    {
      refuses: "BPF_EXIST of an absent key, full or not",
      attr: { map_fd, key: THREE, value, flags: 2 },
      errno: "ENOENT",
    },
    {
      refuses: "BPF_NOEXIST of a present key, full or not",
      attr: { map_fd, key: ONE, value, flags: 1 },
      errno: "EEXIST",
    },
    { refuses: "a new key for a full map", attr: { map_fd, key: THREE, value }, errno: "E2BIG", detail: /2 of 2/ },
    { refuses: "a present key of a full map", attr: { map_fd, key: ONE, value, flags: 2 }, errno: null },
  ]);
  climb(t, subject, "BPF_MAP_LOOKUP_ELEM", [
    { refuses: "an absent key, with or without room", attr: { map_fd, key: THREE, value: "" }, errno: "ENOENT" },
    { refuses: "a CPU's slot less of room", attr: { map_fd, key: ONE, value: "00".repeat(15) }, errno: "EFAULT" },
  ]);
  climb(t, subject, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", [
    { refuses: "an absent key", attr: { map_fd, key: THREE, value: "" }, errno: "ENOENT" },
    { refuses: "no room, and loses the element", attr: { map_fd, key: ONE, value: "00".repeat(15) }, errno: "EFAULT" },
    { refuses: "what is lost", attr: { map_fd, key: ONE }, errno: "ENOENT" },
  ]);
  climb(t, subject, "BPF_MAP_DELETE_ELEM", [
    { refuses: "an absent key", attr: { map_fd, key: ONE }, errno: "ENOENT" },
    { refuses: "a present key", attr: { map_fd, key: TWO }, errno: null },
    { refuses: "the same key again", attr: { map_fd, key: TWO }, errno: "ENOENT" },
  ]);
});

onBoth("BPF_MAP_TYPE_PERCPU_HASH keeps every CPU's slot with its padding", (t, subject) => {
  const map_fd = create(subject, { ...HASH, max_entries: 4 });
  update(subject, map_fd, ONE, slots(1));
  update(subject, map_fd, ONE, slots(3));
  t.equal(ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: ONE }), slots(3));
  const written = { map_fd, keys: ONE + TWO + TWO, values: slots(5) + slots(7) + slots(9), count: 3 };
  t.same(subject.bpf({ cmd: "BPF_MAP_UPDATE_BATCH", attr: written }).attr, { count: 3 });
  t.same(
    new Map(walk(subject, map_fd)),
    new Map([
      [ONE, slots(5)],
      [TWO, slots(9)],
    ]),
  );
  const { errno, attr } = subject.bpf({ cmd: "BPF_MAP_LOOKUP_BATCH", attr: { map_fd, count: 4 } });
  t.equal(errno, "ENOENT");
  t.same(split(attr.values, 8 * HOST.possibleCpus).sort(), [slots(5), slots(9)]);
  t.equal(ask(subject, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", { map_fd, key: TWO }), slots(9));
  const taken = subject.bpf({ cmd: "BPF_MAP_LOOKUP_AND_DELETE_BATCH", attr: { map_fd, count: 4 } });
  t.same([taken.errno, taken.attr.keys, taken.attr.values], ["ENOENT", ONE, slots(5)]);
  t.same(walk(subject, map_fd), []);
  const deleted = subject.bpf({ cmd: "BPF_MAP_DELETE_BATCH", attr: { map_fd, keys: ONE, count: 1 } });
  t.same([deleted.errno, deleted.attr.count], ["ENOENT", 0]);
});

onBoth("BPF_MAP_TYPE_PERCPU_ARRAY elements are refused in the kernel's order", (t, subject) => {
  climbShared(t, subject, { map: ARRAY, key: u32(3), flags: 3 });
  const map_fd = create(subject, ARRAY);
  const value = slots(1);
  climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
    {
      refuses: "a value for one CPU less",
      attr: { map_fd, key: THREE, value: value.slice(16), flags: 3 },
      errno: "EFAULT",
    },
    { refuses: "BPF_NOEXIST with BPF_EXIST", attr: { map_fd, key: THREE, value, flags: 3 }, errno: "EINVAL" },
    { refuses: "an index outside, with BPF_NOEXIST", attr: { map_fd, key: THREE, value, flags: 1 }, errno: "E2BIG" },
    { refuses: "BPF_NOEXIST inside", attr: { map_fd, key: TWO, value, flags: 1 }, errno: "EEXIST" },
    { refuses: "BPF_EXIST inside", attr: { map_fd, key: TWO, value, flags: 2 }, errno: null },
  ]);
  climb(t, subject, "BPF_MAP_LOOKUP_ELEM", [
    { refuses: "an index outside, with or without room", attr: { map_fd, key: THREE, value: "" }, errno: "ENOENT" },
    { refuses: "an index inside without room", attr: { map_fd, key: TWO, value: "00".repeat(15) }, errno: "EFAULT" },
  ]);
  climb(t, subject, "BPF_MAP_DELETE_ELEM", [
    { refuses: "an index outside", attr: { map_fd, key: THREE }, errno: "EINVAL" },
    { refuses: "an index inside", attr: { map_fd, key: TWO }, errno: "EINVAL" },
  ]);
  climb(t, subject, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", [
    { refuses: "any index", attr: { map_fd, key: TWO }, errno: "ENOTSUPP" },
  ]);
  for (const cmd of ["BPF_MAP_DELETE_BATCH", "BPF_MAP_LOOKUP_AND_DELETE_BATCH"])
    climb(t, subject, cmd, [{ refuses: "arrays", attr: { map_fd, elem_flags: 1, count: 0 }, errno: "ENOTSUPP" }]);
  t.same(walk(subject, map_fd), [
    [u32(0), ZEROS],
    [ONE, ZEROS],
    [TWO, value],
  ]);
});

onBoth("BPF_MAP_TYPE_PERCPU_ARRAY batches count up, and start again from outside", (t, subject) => {
  const map_fd = create(subject, ARRAY);
  const written = { map_fd, keys: u32(0) + TWO + THREE, values: slots(1) + slots(3) + slots(5), count: 3 };
  const stopped = subject.bpf({ cmd: "BPF_MAP_UPDATE_BATCH", attr: written });
  t.same([stopped.errno, stopped.attr], ["E2BIG", { count: 2 }], "the first error ends an update batch");
  for (const [count, in_batch, errno, values] of [
    [2, null, null, [slots(1), ZEROS]],
    [2, ONE, "ENOENT", [slots(3)]],
    [3, null, null, [slots(1), ZEROS, slots(3)]],
    [4, null, "ENOENT", [slots(1), ZEROS, slots(3)]],
    [1, u32(9), null, [slots(1)]],
  ] as const) {
    const answer = subject.bpf({ cmd: "BPF_MAP_LOOKUP_BATCH", attr: { map_fd, count, in_batch } });
    t.same(
      [answer.errno, split(answer.attr.values, 8 * HOST.possibleCpus)],
      [errno, values],
      `${count} from ${in_batch}`,
    );
  }
  succeed(subject.bpf({ cmd: "BPF_MAP_FREEZE", attr: { map_fd } }));
  t.equal(ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: TWO }), slots(3), "a frozen map can be read");
});
