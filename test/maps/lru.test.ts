import { HOST } from "../../conformance/service.ts";
import { BPF_F, BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { ask, climb, create, split, u32, update, walk } from "./ladder.ts";
import { climbShared } from "./shared_guards.ts";
import { onBoth, onService } from "./subjects.ts";

const { BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH } = BPF_MAP_TYPE;

for (const [name, map_type, value_size] of [
  ["BPF_MAP_TYPE_LRU_HASH", BPF_MAP_TYPE_LRU_HASH, 4],
  ["BPF_MAP_TYPE_LRU_PERCPU_HASH", BPF_MAP_TYPE_LRU_PERCPU_HASH, 8],
] as const) {
  const shape = { map_type, key_size: 4, value_size, max_entries: 4 };
  const value = "01".repeat(map_type === BPF_MAP_TYPE_LRU_HASH ? 4 : 16);

  onBoth(`${name} create refuses in the kernel's order`, (t, subject) => {
    climb(t, subject, "BPF_MAP_CREATE", [
      {
        refuses: "unknown flags, before all else",
        attr: { map_type, map_flags: BPF_F.BPF_F_STACK_BUILD_ID | BPF_F.BPF_F_NO_PREALLOC },
        errno: "EINVAL",
        detail: /not among/,
      },
      {
        refuses: "to be filled on demand, before sizes",
        attr: { map_type, map_flags: BPF_F.BPF_F_NO_PREALLOC },
        errno: "ENOTSUPP",
      },
      { refuses: "no entries", attr: { map_type, key_size: 0, value_size: 0 }, errno: "EINVAL", detail: /max_entries/ },
      { refuses: "no keys", attr: { map_type, max_entries: 1, value_size: 0 }, errno: "EINVAL", detail: /key_size/ },
      { refuses: "no values", attr: { map_type, max_entries: 1, key_size: 4 }, errno: "EINVAL", detail: /value_size/ },
      {
        refuses: "too large a value, before too many entries",
        attr: { map_type, key_size: 4, value_size: 2 ** 22, max_entries: 2 ** 27 + 1 },
        errno: "E2BIG",
      },
      { refuses: "nothing", attr: shape, errno: null },
    ]);
  });

  onService(`${name} puts the least recently updated element out, and the event names it`, (t, service) => {
    const fd = create(service, shape);
    for (const number of [1, 2, 3, 4]) update(service, fd, u32(number), value);
    update(service, fd, u32(1), value);
    service.bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd: fd, key: u32(2) } });
    const target = { by: "fd", fd } as const;
    const element = { target, value: Buffer.from(value, "hex"), flags: 0n };
    const { outcome } = service.run({ cmd: 2, ...element, key: Buffer.from(u32(5), "hex") });
    t.same(outcome.out?.evicted, [[0, u32(2)]], "a lookup is no use; 1 was updated again");
    t.same(
      walk(service, fd)
        .map(([key]) => key)
        .sort(),
      [1, 3, 4, 5].map(u32).sort(),
    );
  });

  onService(`${name} updates that fail put nothing out, and batches tell at which element they did`, (t, service) => {
    const fd = create(service, shape);
    for (const number of [1, 2, 3, 4]) update(service, fd, u32(number), value);
    const refused = (key: number, flags: number): string | null =>
      service.bpf({ cmd: "BPF_MAP_UPDATE_ELEM", attr: { map_fd: fd, key: u32(key), value, flags } }).errno;
    t.equal(refused(1, 1), "EEXIST");
    t.equal(refused(9, 2), "ENOENT");
    t.equal(service.entryCount(fd), 4);
    const { outcome } = service.run({
      cmd: 26,
      target: { by: "fd", fd },
      key: Buffer.from([1, 7, 8].map(u32).join(""), "hex"),
      value: Buffer.from(value.repeat(3), "hex"),
      flags: 0n,
      attr: { count: 3, elemFlags: 0n, inBatch: null, outBatch: null },
    });
    t.same(outcome.out?.evicted, [
      [1, u32(2)],
      [2, u32(3)],
    ]);
  });

  onBoth(`${name} BPF_F_NO_COMMON_LRU rounds max_entries up to a multiple of the CPUs`, (t, subject) => {
    const fd = create(subject, { ...shape, max_entries: 3, map_flags: BPF_F.BPF_F_NO_COMMON_LRU });
    const { attr } = subject.bpf({ cmd: "BPF_OBJ_GET_INFO_BY_FD", attr: { bpf_fd: fd, info_len: 104 } });
    t.equal(Buffer.from(attr.info as string, "hex").readUInt32LE(16), 4);
  });
}

for (const [map_type, bytes, valueMax] of [
  ["BPF_MAP_TYPE_LRU_HASH", 4, null],
  ["BPF_MAP_TYPE_LRU_PERCPU_HASH", 8 * HOST.possibleCpus, 32_768],
] as const) {
  /** Room for many more keys than there are: nothing is put out, here or in a kernel. */
  const LRU = { map_type, key_size: 4, value_size: 4, max_entries: 64 };
  const value = (byte: string): string => byte.repeat(bytes);
  const [ONE, TWO, THREE] = [u32(1), u32(2), u32(3)];

  onBoth(`${map_type} BPF_MAP_CREATE breaks one rule after the other`, (t, subject) => {
    const last = { ...LRU, max_entries: 2 ** 27 + 1, map_name: "a-b" };
    const token = { ...last, map_flags: BPF_F.BPF_F_TOKEN_FD, map_token_fd: -1 };
    const large = { ...token, key_size: 4, value_size: valueMax === null ? 4_194_252 : valueMax + 1 };
    const none = { ...large, key_size: 0, value_size: 0, max_entries: 0 };
    const node = BPF_F.BPF_F_NUMA_NODE | BPF_F.BPF_F_NO_COMMON_LRU;
    const placed = { ...none, numa_node: 0, map_flags: token.map_flags | node };
    const grows = { ...placed, map_flags: placed.map_flags | BPF_F.BPF_F_NO_PREALLOC };
    const both = { ...grows, map_flags: grows.map_flags | BPF_F.BPF_F_RDONLY_PROG | BPF_F.BPF_F_WRONLY_PROG };
    climb(t, subject, "BPF_MAP_CREATE", [
      {
        refuses: "a flag of other types",
        attr: { ...both, map_flags: both.map_flags | BPF_F.BPF_F_CLONE },
        errno: "EINVAL",
        detail: /not among/,
      },
      { refuses: "both program modes", attr: both, errno: "EINVAL", detail: /BPF_F_RDONLY_PROG excludes/ },
      { refuses: "a map that grows", attr: grows, errno: "ENOTSUPP", detail: /BPF_F_NO_PREALLOC/ },
      { refuses: "lists of every CPU's own on one node", attr: placed, errno: "EINVAL", detail: /one NUMA node/ },
      { refuses: "no entries", attr: none, errno: "EINVAL", detail: /max_entries/ },
      { refuses: "no key", attr: { ...none, max_entries: last.max_entries }, errno: "EINVAL", detail: /key_size/ },
      { refuses: "no value", attr: { ...large, value_size: 0 }, errno: "EINVAL", detail: /value_size/ },
      { refuses: "a value that is too large", attr: large, errno: "E2BIG", detail: /value_size/ },
      { refuses: "a token that is not open", attr: token, errno: "EBADF", detail: /map_token_fd/ },
      { refuses: "too many entries", attr: last, errno: "E2BIG", detail: /max_entries/ },
      { refuses: "a bad name", attr: { ...LRU, map_name: "a-b" }, errno: "EINVAL", detail: /map_name/ },
    ]);
  });

  onBoth(`${map_type} elements are refused in the kernel's order`, (t, subject) => {
    climbShared(t, subject, { map: LRU, key: THREE, flags: 3 });
    const map_fd = create(subject, LRU);
    update(subject, map_fd, ONE, value("11"));
    update(subject, map_fd, TWO, value("22"));
    climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
      { refuses: "a byte less", attr: { map_fd, key: THREE, value: value("33").slice(2), flags: 3 }, errno: "EFAULT" },
      {
        refuses: "BPF_NOEXIST with BPF_EXIST",
        attr: { map_fd, key: THREE, value: value("33"), flags: 3 },
        errno: "EINVAL",
      },
      {
        refuses: "BPF_EXIST of an absent key",
        attr: { map_fd, key: THREE, value: value("33"), flags: 2 },
        errno: "ENOENT",
      },
      {
        refuses: "BPF_NOEXIST of a present key",
        attr: { map_fd, key: ONE, value: value("33"), flags: 1 },
        errno: "EEXIST",
      },
      { refuses: "a present key", attr: { map_fd, key: ONE, value: value("33"), flags: 2 }, errno: null },
    ]);
    climb(t, subject, "BPF_MAP_LOOKUP_ELEM", [
      { refuses: "an absent key", attr: { map_fd, key: THREE, value: "" }, errno: "ENOENT" },
      { refuses: "no room", attr: { map_fd, key: ONE, value: value("00").slice(2) }, errno: "EFAULT" },
    ]);
    t.same(
      new Map(walk(subject, map_fd)),
      new Map([
        [ONE, value("33")],
        [TWO, value("22")],
      ]),
    );
    climb(t, subject, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", [
      { refuses: "an absent key", attr: { map_fd, key: THREE, value: "" }, errno: "ENOENT" },
      { refuses: "no room, and loses the element", attr: { map_fd, key: ONE, value: "" }, errno: "EFAULT" },
      { refuses: "what is lost", attr: { map_fd, key: ONE }, errno: "ENOENT" },
    ]);
    climb(t, subject, "BPF_MAP_DELETE_ELEM", [
      { refuses: "an absent key", attr: { map_fd, key: ONE }, errno: "ENOENT" },
      { refuses: "a present key", attr: { map_fd, key: TWO }, errno: null },
      { refuses: "the same key again", attr: { map_fd, key: TWO }, errno: "ENOENT" },
    ]);
  });

  onBoth(`${map_type} batches come and go`, (t, subject) => {
    const map_fd = create(subject, LRU);
    const written = { map_fd, keys: ONE + TWO + TWO, values: value("11") + value("22") + value("33"), count: 3 };
    t.same(subject.bpf({ cmd: "BPF_MAP_UPDATE_BATCH", attr: written }).attr, { count: 3 });
    const read = subject.bpf({ cmd: "BPF_MAP_LOOKUP_BATCH", attr: { map_fd, count: 8 } });
    t.same([read.errno, split(read.attr.values, bytes).sort()], ["ENOENT", [value("11"), value("33")]]);
    const deleted = subject.bpf({ cmd: "BPF_MAP_DELETE_BATCH", attr: { map_fd, keys: ONE + ONE, count: 2 } });
    t.same([deleted.errno, deleted.attr], ["ENOENT", { count: 1 }]);
    const taken = subject.bpf({ cmd: "BPF_MAP_LOOKUP_AND_DELETE_BATCH", attr: { map_fd, count: 8 } });
    t.same([taken.errno, taken.attr.keys, taken.attr.values], ["ENOENT", TWO, value("33")]);
    t.same(walk(subject, map_fd), []);
  });

  onService(`${map_type} puts out in the order of updates, whatever came between`, (t, service) => {
    const map_fd = create(service, { ...LRU, max_entries: 3 });
    const keys = (): string[] =>
      walk(service, map_fd)
        .map(([key]) => key)
        .sort();
    const put = (key: number): void => update(service, map_fd, u32(key), value("11"));
    for (const key of [1, 2, 3]) put(key);
    service.bpf({ cmd: "BPF_MAP_DELETE_ELEM", attr: { map_fd, key: u32(1) } });
    put(4);
    t.same(keys(), [2, 3, 4].map(u32), "a deleted element has made room");
    put(2);
    put(5);
    t.same(keys(), [2, 4, 5].map(u32), "an update is a use");
    service.bpf({ cmd: "BPF_MAP_LOOKUP_AND_DELETE_ELEM", attr: { map_fd, key: u32(4) } });
    put(4);
    put(6);
    t.same(keys(), [4, 5, 6].map(u32), "what was taken out and came back is new");
    for (const key of [7, 8, 9]) put(key);
    t.same(keys(), [7, 8, 9].map(u32));
    t.equal(service.entryCount(map_fd), 3);
    t.equal(ask(service, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: u32(9) }), value("11"));
    service.bpf({ cmd: "BPF_MAP_LOOKUP_AND_DELETE_BATCH", attr: { map_fd, count: 8 } });
    for (const key of [1, 2, 3, 4]) put(key);
    t.same(keys(), [2, 3, 4].map(u32), "after all were taken out, too");
  });

  onService(`${map_type} of one element puts it out for any other`, (t, service) => {
    const map_fd = create(service, { ...LRU, max_entries: 1 });
    for (const key of [1, 2, 2, 3]) update(service, map_fd, u32(key), value("11"));
    t.same(walk(service, map_fd), [[u32(3), value("11")]]);
    t.equal(service.entryCount(map_fd), 1);
  });
}
