import * as fc from "fast-check";
import t from "tap";
import { Service } from "../../conformance/service.ts";
import { BPF_F } from "../../src/abi/bpf.ts";
import { SEED } from "../support/seed.ts";
import { climb, create, split, succeed, u32, update, walk } from "./ladder.ts";

const HASH = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 4, max_entries: 2 };
const ONE = u32(1);
const TWO = u32(2);
const THREE = u32(3);
const {
  BPF_F_RDONLY,
  BPF_F_WRONLY,
  BPF_F_RDONLY_PROG,
  BPF_F_WRONLY_PROG,
  BPF_F_TOKEN_FD,
  BPF_F_CLONE,
  BPF_F_NUMA_NODE,
} = BPF_F;

t.test("BPF_MAP_TYPE_HASH BPF_MAP_CREATE refuses in the kernel's order", async (t) => {
  // Each rung mends what the one before it was refused for.
  const last = {
    ...HASH,
    max_entries: 2 ** 27 + 1,
    map_name: "a-b",
    btf_value_type_id: 1,
    btf_fd: -1,
    excl_prog_hash_size: 1,
  };
  const token = { ...last, map_flags: BPF_F_TOKEN_FD, map_token_fd: -1 };
  const large = { ...token, key_size: 4, value_size: 4_194_252 };
  const first = { ...large, map_flags: BPF_F_TOKEN_FD | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG | BPF_F_CLONE };
  const sizes = { key_size: 0, value_size: 0, max_entries: 0 };
  const both = first.map_flags | BPF_F_RDONLY | BPF_F_WRONLY | BPF_F_NUMA_NODE;
  climb(t, new Service(), "BPF_MAP_CREATE", [
    {
      refuses: "a key type without a value type",
      attr: { ...first, ...sizes, btf_key_type_id: 1, btf_value_type_id: 0, map_extra: 1, map_flags: both },
      errno: "EINVAL",
      detail: /btf_key_type_id/,
    },
    {
      refuses: "map_extra",
      attr: { ...first, ...sizes, map_extra: 1, map_flags: both, numa_node: 9 },
      errno: "EINVAL",
      detail: /map_extra/,
    },
    {
      refuses: "both access modes",
      attr: { ...first, ...sizes, map_flags: both, numa_node: 9 },
      errno: "EINVAL",
      detail: /BPF_F_RDONLY excludes/,
    },
    {
      refuses: "a node that is not online",
      attr: { ...first, ...sizes, map_flags: both & ~BPF_F_RDONLY, numa_node: 9 },
      errno: "EINVAL",
      detail: /numa_node/,
    },
    { refuses: "a flag of other types", attr: { ...first, ...sizes }, errno: "EINVAL", detail: /not among/ },
    {
      refuses: "both program modes",
      attr: { ...first, ...sizes, map_flags: first.map_flags & ~BPF_F_CLONE },
      errno: "EINVAL",
      detail: /BPF_F_RDONLY_PROG excludes/,
    },
    { refuses: "no entries", attr: { ...large, ...sizes }, errno: "EINVAL", detail: /max_entries/ },
    {
      refuses: "no key",
      attr: { ...large, ...sizes, max_entries: last.max_entries },
      errno: "EINVAL",
      detail: /key_size/,
    },
    { refuses: "no value", attr: { ...large, value_size: 0 }, errno: "EINVAL", detail: /value_size/ },
    { refuses: "an element that is too large", attr: large, errno: "E2BIG", detail: /key_size \+ value_size/ },
    { refuses: "a token that is not open", attr: token, errno: "EBADF", detail: /map_token_fd/ },
    { refuses: "too many entries", attr: last, errno: "E2BIG", detail: /max_entries/ },
    { refuses: "a bad name", attr: { ...last, max_entries: 2 }, errno: "EINVAL", detail: /map_name/ },
    {
      refuses: "BTF that is not open",
      attr: { ...last, max_entries: 2, map_name: "a_b" },
      errno: "EBADF",
      detail: /btf_fd/,
    },
    {
      refuses: "half of an exclusive program",
      attr: { ...HASH, excl_prog_hash_size: 1 },
      errno: "EINVAL",
      detail: /excl_prog_hash/,
    },
    {
      refuses: "an element of the largest size",
      attr: { ...HASH, value_size: 4_194_251, max_entries: 1 },
      errno: null,
    },
  ]);
});

t.test("BPF_MAP_TYPE_HASH elements are refused in the kernel's order", async (t) => {
  const service = new Service();
  const map_fd = create(service, HASH);
  const pipe = service.open({ kind: "pipe" }).ret;
  const readonly = create(service, { ...HASH, map_flags: BPF_F_RDONLY });
  const writeonly = create(service, { ...HASH, map_flags: BPF_F_WRONLY });
  update(service, map_fd, ONE, "11111111");
  update(service, map_fd, TWO, "22222222");

  climb(t, service, "BPF_MAP_UPDATE_ELEM", [
    { refuses: "a descriptor that is not open", attr: { map_fd: 99, flags: 7 }, errno: "EBADF" },
    { refuses: "a descriptor of something else", attr: { map_fd: pipe, flags: 7 }, errno: "EINVAL", detail: /pipe/ },
    { refuses: "a descriptor for reading", attr: { map_fd: readonly, flags: 7 }, errno: "EPERM" },
    { refuses: "BPF_F_LOCK", attr: { map_fd, flags: 7 }, errno: "EINVAL", detail: /BPF_F_LOCK/ },
    { refuses: "a null key", attr: { map_fd, flags: 3 }, errno: "EFAULT", detail: /key/ },
    {
      refuses: "a short value",
      attr: { map_fd, key: THREE, value: "333333", flags: 3 },
      errno: "EFAULT",
      detail: /value/,
    },
    {
      refuses: "BPF_NOEXIST with BPF_EXIST",
      attr: { map_fd, key: THREE, value: "33333333", flags: 3 },
      errno: "EINVAL",
      detail: /flags 3/,
    },
    {
      refuses: "BPF_EXIST of an absent key, full or not",
      attr: { map_fd, key: THREE, value: "33333333", flags: 2 },
      errno: "ENOENT",
    },
    {
      refuses: "BPF_NOEXIST of a present key, full or not",
      attr: { map_fd, key: ONE, value: "33333333", flags: 1 },
      errno: "EEXIST",
    },
    {
      refuses: "a new key for a full map",
      attr: { map_fd, key: THREE, value: "33333333" },
      errno: "E2BIG",
      detail: /2 of 2/,
    },
    {
      refuses: "a present key of a full map",
      attr: { map_fd, key: `${ONE}ff`, value: "1111aaaaff", flags: 2 },
      errno: null,
    },
  ]);
  t.same(service.bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd, key: ONE } }).attr, { value: "1111aaaa" });

  climb(t, service, "BPF_MAP_LOOKUP_ELEM", [
    {
      refuses: "flags that are none of a lookup's",
      attr: { map_fd: 99, flags: 5 },
      errno: "EINVAL",
      detail: /flags 5/,
    },
    { refuses: "a descriptor that is not open", attr: { map_fd: 99, flags: 4 }, errno: "EBADF" },
    { refuses: "a descriptor for writing", attr: { map_fd: writeonly, flags: 4 }, errno: "EPERM" },
    { refuses: "BPF_F_LOCK", attr: { map_fd, flags: 4 }, errno: "EINVAL", detail: /BPF_F_LOCK/ },
    { refuses: "a short key", attr: { map_fd, key: "010000", value: "" }, errno: "EFAULT", detail: /key/ },
    { refuses: "an absent key, with or without room", attr: { map_fd, key: THREE, value: "" }, errno: "ENOENT" },
    {
      refuses: "a present key without room",
      attr: { map_fd, key: ONE, value: "000000" },
      errno: "EFAULT",
      detail: /value/,
    },
  ]);
  climb(t, service, "BPF_MAP_GET_NEXT_KEY", [
    { refuses: "a descriptor for writing", attr: { map_fd: writeonly, key: "" }, errno: "EPERM" },
    { refuses: "a short key", attr: { map_fd, key: "010000", next_key: "" }, errno: "EFAULT", detail: /^key/ },
    { refuses: "no room", attr: { map_fd, next_key: "" }, errno: "EFAULT", detail: /next_key/ },
  ]);
  climb(t, service, "BPF_MAP_DELETE_ELEM", [
    { refuses: "a descriptor for reading", attr: { map_fd: readonly }, errno: "EPERM" },
    { refuses: "a null key", attr: { map_fd }, errno: "EFAULT" },
    { refuses: "an absent key", attr: { map_fd, key: THREE }, errno: "ENOENT" },
    { refuses: "a present key", attr: { map_fd, key: ONE }, errno: null },
    { refuses: "the same key again", attr: { map_fd, key: ONE }, errno: "ENOENT" },
  ]);
});

t.test("BPF_MAP_TYPE_HASH take-out loses the element where there is no room for it", async (t) => {
  const service = new Service();
  const map_fd = create(service, HASH);
  update(service, map_fd, ONE, "11111111");
  update(service, map_fd, TWO, "22222222");
  climb(t, service, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", [
    { refuses: "an absent key", attr: { map_fd, key: THREE, value: "" }, errno: "ENOENT" },
    { refuses: "a present key without room", attr: { map_fd, key: ONE, value: "000000" }, errno: "EFAULT" },
    { refuses: "what it has lost", attr: { map_fd, key: ONE }, errno: "ENOENT" },
    { refuses: "a present key", attr: { map_fd, key: TWO }, errno: null },
  ]);
  t.equal(service.entryCount(map_fd), 0);
  const { state, fold } = service.cells();
  t.same(fold, state);
});

t.test("BPF_MAP_TYPE_HASH counts its elements whatever removes them", async (t) => {
  const service = new Service();
  const map_fd = create(service, { ...HASH, max_entries: 4 });
  const fill = (): void => {
    for (const key of [1, 2, 3, 4]) update(service, map_fd, u32(key), u32(key));
    t.equal(service.entryCount(map_fd), 4);
    t.equal(service.bpf({ cmd: "BPF_MAP_UPDATE_ELEM", attr: { map_fd, key: u32(5), value: ONE } }).errno, "E2BIG");
  };
  for (const [cmd, attr, left] of [
    ["BPF_MAP_DELETE_ELEM", { key: ONE }, 3],
    ["BPF_MAP_LOOKUP_AND_DELETE_ELEM", { key: ONE }, 3],
    ["BPF_MAP_DELETE_BATCH", { keys: ONE + TWO, count: 2 }, 2],
    ["BPF_MAP_DELETE_BATCH", { keys: ONE + TWO + TWO + THREE, count: 4 }, 2],
    ["BPF_MAP_LOOKUP_AND_DELETE_BATCH", { count: 4 }, 0],
  ] as const) {
    fill();
    service.bpf({ cmd, attr: { map_fd, ...attr } });
    t.equal(service.entryCount(map_fd), left, `${cmd} leaves ${left}`);
    t.equal(walk(service, map_fd).length, left);
  }
});

t.test("BPF_MAP_TYPE_HASH GET_NEXT_KEY starts again from a key that is gone", async (t) => {
  const service = new Service();
  const map_fd = create(service, { ...HASH, max_entries: 16 });
  for (let key = 0; key < 9; key++) update(service, map_fd, u32(key), u32(key));
  const keys = walk(service, map_fd).map(([key]) => key);
  t.equal(new Set(keys).size, 9);
  service.bpf({ cmd: "BPF_MAP_DELETE_ELEM", attr: { map_fd, key: keys[4] } });
  t.equal(service.bpf({ cmd: "BPF_MAP_GET_NEXT_KEY", attr: { map_fd, key: keys[4] } }).attr.next_key, keys[0]);
  t.equal(service.bpf({ cmd: "BPF_MAP_GET_NEXT_KEY", attr: { map_fd, key: keys[8] } }).errno, "ENOENT");
});

t.test("BPF_MAP_TYPE_HASH keeps keys apart that differ behind their 512th byte", async (t) => {
  const service = new Service();
  for (const key_size of [511, 512, 513, 600, 5000]) {
    const map_fd = create(service, { ...HASH, key_size, max_entries: 8 });
    const keys = [1, 2, 3, 4, 5].map((last) => "ab".repeat(key_size - 1) + last.toString(16).padStart(2, "0"));
    for (const [at, key] of keys.entries()) update(service, map_fd, key, u32(at));
    update(service, map_fd, keys[2] as string, "deadbeef");
    t.same(
      walk(service, map_fd)
        .map(([key]) => key)
        .sort(),
      keys,
      `keys of ${key_size} bytes`,
    );
    t.equal(service.bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd, key: keys[2] } }).attr.value, "deadbeef");
    const taken = succeed(service.bpf({ cmd: "BPF_MAP_LOOKUP_AND_DELETE_ELEM", attr: { map_fd, key: keys[1] } }));
    t.equal(taken.attr.value, u32(1));
    const batch = service.bpf({ cmd: "BPF_MAP_LOOKUP_BATCH", attr: { map_fd, count: 8 } });
    t.same(
      split(batch.attr.keys, key_size).sort(),
      keys.filter((_, at) => at !== 1),
    );
  }
  const { state, fold } = service.cells();
  t.same(fold, state);
});

t.test("BPF_MAP_TYPE_HASH takes values of 4 MiB", async (t) => {
  const service = new Service();
  const value_size = 4_194_251;
  const map_fd = create(service, { ...HASH, value_size, max_entries: 2 });
  const value = "5a".repeat(value_size);
  update(service, map_fd, ONE, value);
  update(service, map_fd, ONE, `${value.slice(0, -2)}a5`);
  const { attr } = service.bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd, key: ONE } });
  t.ok(attr.value === `${value.slice(0, -2)}a5`);
});

t.test("BPF_MAP_TYPE_HASH lookup batches come in whole buckets and end with ENOENT", async () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.nat(0xffff), { maxLength: 120 }),
      fc.integer({ min: 1, max: 40 }),
      fc.boolean(),
      (keys, first, takes) => {
        const service = new Service();
        const map_fd = create(service, { ...HASH, max_entries: 128 });
        for (const key of keys) update(service, map_fd, u32(key), u32(key + 1));
        const cmd = takes ? "BPF_MAP_LOOKUP_AND_DELETE_BATCH" : "BPF_MAP_LOOKUP_BATCH";
        const found: string[] = [];
        let count = first;
        let in_batch: string | null = null;
        for (;;) {
          const { errno, attr } = service.bpf({ cmd, attr: { map_fd, count, in_batch } });
          if ((attr.count as number) > count) throw new Error("more than asked for");
          if (errno === "ENOSPC") {
            if (attr.count !== 0) throw new Error("ENOSPC with elements");
            count++;
            continue;
          }
          const page = split(attr.keys, 4);
          if (
            split(attr.values, 4).some(
              (value, at) => value !== u32(Number(Buffer.from(page[at] as string, "hex").readUInt32LE()) + 1),
            )
          )
            throw new Error("a value that is another key's");
          found.push(...page);
          if (errno === "ENOENT") break;
          in_batch = attr.out_batch as string;
        }
        if (JSON.stringify(found.sort()) !== JSON.stringify(keys.map(u32).sort()))
          throw new Error(`${found.length} of ${keys.length} elements`);
        if (service.entryCount(map_fd) !== (takes ? 0 : keys.length))
          throw new Error(`${service.entryCount(map_fd)} are left`);
      },
    ),
    { seed: SEED, numRuns: 60 },
  );
});

t.test("BPF_MAP_TYPE_HASH BPF_MAP_LOOKUP_BATCH refuses in the kernel's order", async (t) => {
  const service = new Service();
  const map_fd = create(service, { ...HASH, max_entries: 8 });
  const writeonly = create(service, { ...HASH, map_flags: BPF_F_WRONLY });
  for (const key of [1, 2, 3]) update(service, map_fd, u32(key), u32(key));
  const all = { in_batch: "", out_batch: "", keys: "", values: "", count: 3, flags: 1, elem_flags: 1 };
  climb(t, service, "BPF_MAP_LOOKUP_BATCH", [
    { refuses: "a descriptor that is not open", attr: { ...all, map_fd: 99 }, errno: "EBADF" },
    { refuses: "a descriptor for writing", attr: { ...all, map_fd: writeonly }, errno: "EPERM" },
    { refuses: "elem_flags", attr: { ...all, map_fd }, errno: "EINVAL", detail: /elem_flags/ },
    { refuses: "flags", attr: { ...all, map_fd, elem_flags: 0 }, errno: "EINVAL", detail: /^flags/ },
    {
      refuses: "a count of 0, whatever the buffers are",
      attr: { ...all, map_fd, elem_flags: 0, flags: 0, count: 0 },
      errno: null,
    },
    {
      refuses: "a position that cannot be read",
      attr: { ...all, map_fd, elem_flags: 0, flags: 0 },
      errno: "EFAULT",
      detail: /in_batch/,
    },
    {
      refuses: "a position behind the last bucket",
      attr: { ...all, map_fd, elem_flags: 0, flags: 0, in_batch: u32(8) },
      errno: "ENOENT",
      detail: /8 buckets/,
    },
    {
      refuses: "no room for keys",
      attr: { map_fd, count: 3, keys: "", values: "", out_batch: "" },
      errno: "EFAULT",
      detail: /keys/,
    },
    {
      refuses: "no room for values",
      attr: { map_fd, count: 3, values: "", out_batch: "" },
      errno: "EFAULT",
      detail: /values/,
    },
    {
      refuses: "no room for the position",
      attr: { map_fd, count: 3, out_batch: "" },
      errno: "EFAULT",
      detail: /out_batch/,
    },
  ]);
});

/** The live kernel: of 40 elements in 64 buckets, 38 were left after keys: "", 29 after room for ten, none without room for a position. */
t.test("BPF_MAP_LOOKUP_AND_DELETE_BATCH loses the buckets up to the one that there is no room for", async (t) => {
  for (const [room, least, most] of [
    [{ keys: "" }, 20, 39],
    [{ values: "00".repeat(4 * 10) }, 20, 29],
    [{ out_batch: "" }, 0, 0],
  ] as const) {
    const service = new Service();
    const map_fd = create(service, { ...HASH, max_entries: 64 });
    for (let key = 0; key < 40; key++) update(service, map_fd, u32(key), u32(key));
    const { errno, attr } = service.bpf({
      cmd: "BPF_MAP_LOOKUP_AND_DELETE_BATCH",
      attr: { map_fd, count: 100, ...room },
    });
    t.same([errno, attr], ["EFAULT", { count: 0 }]);
    const left = walk(service, map_fd).length;
    t.ok(left >= least && left <= most, `${JSON.stringify(room)}: ${left} of 40 are left`);
    t.equal(service.entryCount(map_fd), left);
    const { state, fold } = service.cells();
    t.same(fold, state);
  }
});
