import * as fc from "fast-check";
import t from "tap";
import { Service } from "../../conformance/service.ts";
import { BPF_F } from "../../src/abi/bpf.ts";
import { SEED } from "../support/seed.ts";
import { climb, create, u32, update, walk } from "./ladder.ts";

const { BPF_F_NO_PREALLOC, BPF_F_RDONLY, BPF_F_WRONLY, BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG, BPF_F_ZERO_SEED } = BPF_F;
const TRIE = {
  map_type: "BPF_MAP_TYPE_LPM_TRIE",
  key_size: 8,
  value_size: 4,
  max_entries: 2,
  map_flags: BPF_F_NO_PREALLOC,
};

/** A prefix of a trie: as in prefix(24, 10, 1, 2). */
function prefix(bits: number, ...data: number[]): string {
  return u32(bits) + Buffer.from([...data, 0, 0, 0, 0].slice(0, 4)).toString("hex");
}

t.test("BPF_MAP_TYPE_LPM_TRIE BPF_MAP_CREATE refuses in the kernel's order", async (t) => {
  const modes = BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;
  const worst = { ...TRIE, key_size: 4, value_size: 0, max_entries: 0, map_flags: BPF_F_ZERO_SEED, map_name: "a-b" };
  const token = { map_flags: BPF_F.BPF_F_TOKEN_FD | BPF_F_ZERO_SEED, map_token_fd: -1 };
  climb(t, new Service(), "BPF_MAP_CREATE", [
    { refuses: "a token that is not open, before all of the type's own", attr: { ...worst, ...token }, errno: "EBADF" },
    { refuses: "no entries", attr: worst, errno: "EINVAL", detail: /max_entries/ },
    {
      refuses: "no BPF_F_NO_PREALLOC",
      attr: { ...worst, max_entries: 1 },
      errno: "EINVAL",
      detail: /BPF_F_NO_PREALLOC/,
    },
    {
      refuses: "a flag of other types",
      attr: { ...worst, max_entries: 1, map_flags: modes | BPF_F_ZERO_SEED },
      errno: "EINVAL",
      detail: /not among/,
    },
    {
      refuses: "both program modes",
      attr: { ...worst, max_entries: 1, map_flags: modes },
      errno: "EINVAL",
      detail: /BPF_F_RDONLY_PROG excludes/,
    },
    {
      refuses: "a key without data",
      attr: { ...worst, ...TRIE, key_size: 4, value_size: 0 },
      errno: "EINVAL",
      detail: /key_size/,
    },
    {
      refuses: "a key of more than 256 bytes of data",
      attr: { ...worst, ...TRIE, key_size: 261, value_size: 0 },
      errno: "EINVAL",
      detail: /key_size/,
    },
    { refuses: "no value", attr: { ...worst, ...TRIE, value_size: 0 }, errno: "EINVAL", detail: /value_size/ },
    {
      refuses: "a value that is too large",
      attr: { ...worst, ...TRIE, value_size: 4_194_025 },
      errno: "EINVAL",
      detail: /value_size/,
    },
    { refuses: "a bad name", attr: { ...worst, ...TRIE, value_size: 4_194_024 }, errno: "EINVAL", detail: /map_name/ },
    {
      refuses: "the largest of all",
      attr: { ...TRIE, key_size: 260, value_size: 4_194_024, max_entries: 0xffffffff },
      errno: null,
    },
  ]);
});

t.test("BPF_MAP_TYPE_LPM_TRIE elements are refused in the kernel's order", async (t) => {
  const service = new Service();
  const map_fd = create(service, TRIE);
  const readonly = create(service, { ...TRIE, map_flags: BPF_F_NO_PREALLOC | BPF_F_RDONLY });
  const writeonly = create(service, { ...TRIE, map_flags: BPF_F_NO_PREALLOC | BPF_F_WRONLY });
  update(service, map_fd, prefix(8, 10), "11111111");
  update(service, map_fd, prefix(16, 10, 1), "22222222");
  const value = "33333333";
  climb(t, service, "BPF_MAP_UPDATE_ELEM", [
    { refuses: "a descriptor that is not open", attr: { map_fd: 99, flags: 7 }, errno: "EBADF" },
    { refuses: "a descriptor for reading", attr: { map_fd: readonly, flags: 7 }, errno: "EPERM" },
    { refuses: "BPF_F_LOCK", attr: { map_fd, flags: 7 }, errno: "EINVAL", detail: /BPF_F_LOCK/ },
    { refuses: "a short key", attr: { map_fd, key: "0a", flags: 3 }, errno: "EFAULT", detail: /key/ },
    { refuses: "a null value", attr: { map_fd, key: prefix(33), flags: 3 }, errno: "EFAULT", detail: /value/ },
    {
      refuses: "BPF_NOEXIST with BPF_EXIST",
      attr: { map_fd, key: prefix(33), value, flags: 3 },
      errno: "EINVAL",
      detail: /flags 3/,
    },
    {
      refuses: "a prefix that is too long",
      attr: { map_fd, key: prefix(33), value, flags: 2 },
      errno: "EINVAL",
      detail: /prefixlen/,
    },
    {
      refuses: "BPF_EXIST of an absent prefix, full or not",
      attr: { map_fd, key: prefix(24), value, flags: 2 },
      errno: "ENOENT",
    },
    {
      refuses: "BPF_NOEXIST of a present prefix, full or not",
      attr: { map_fd, key: prefix(8, 10), value, flags: 1 },
      errno: "EEXIST",
    },
    {
      refuses: "a new prefix for a full trie",
      attr: { map_fd, key: prefix(24), value },
      errno: "ENOSPC",
      detail: /2 of 2/,
    },
    { refuses: "a present prefix of a full trie", attr: { map_fd, key: prefix(8, 10, 9), value }, errno: null },
  ]);
  t.same(
    walk(service, map_fd).at(-1),
    [prefix(8, 10, 9), value],
    "the bits behind the prefix are those of the last update",
  );
  climb(t, service, "BPF_MAP_LOOKUP_ELEM", [
    { refuses: "a descriptor for writing", attr: { map_fd: writeonly }, errno: "EPERM" },
    { refuses: "a null key", attr: { map_fd, value: "" }, errno: "EFAULT", detail: /key/ },
    { refuses: "a prefix that is too long", attr: { map_fd, key: prefix(33, 10, 1), value: "" }, errno: "ENOENT" },
    { refuses: "what nothing covers", attr: { map_fd, key: prefix(32, 11), value: "" }, errno: "ENOENT" },
    {
      refuses: "what is covered, without room",
      attr: { map_fd, key: prefix(32, 10, 1), value: "" },
      errno: "EFAULT",
      detail: /value/,
    },
  ]);
  climb(t, service, "BPF_MAP_DELETE_ELEM", [
    { refuses: "a descriptor for reading", attr: { map_fd: readonly }, errno: "EPERM" },
    { refuses: "a prefix that is too long", attr: { map_fd, key: prefix(33, 10) }, errno: "EINVAL" },
    { refuses: "a longer prefix of the same bits", attr: { map_fd, key: prefix(9, 10) }, errno: "ENOENT" },
    { refuses: "a present prefix, whatever is behind it", attr: { map_fd, key: prefix(8, 10, 255) }, errno: null },
  ]);
  t.equal(service.entryCount(map_fd), 1);
  climb(t, service, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", [
    { refuses: "a null key", attr: { map_fd }, errno: "EFAULT" },
    { refuses: "any prefix", attr: { map_fd, key: prefix(16, 10, 1) }, errno: "ENOTSUPP" },
  ]);
});

t.test("BPF_MAP_TYPE_LPM_TRIE lookup goes by the prefix length that is asked for", async (t) => {
  const service = new Service();
  const map_fd = create(service, { ...TRIE, max_entries: 8 });
  update(service, map_fd, prefix(0), u32(0));
  update(service, map_fd, prefix(8, 10), u32(8));
  update(service, map_fd, prefix(24, 10, 1, 2), u32(24));
  update(service, map_fd, prefix(32, 10, 1, 2, 3), u32(32));
  for (const [key, length] of [
    [prefix(32, 10, 1, 2, 3), 32],
    [prefix(32, 10, 1, 2, 4), 24],
    [prefix(31, 10, 1, 2, 3), 24],
    [prefix(23, 10, 1, 2, 3), 8],
    [prefix(8, 10, 1, 2, 3), 8],
    [prefix(7, 10), 0],
    [prefix(32, 11), 0],
  ] as const)
    t.equal(service.bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd, key } }).attr.value, u32(length), key);
});

t.test("BPF_MAP_TYPE_LPM_TRIE GET_NEXT_KEY goes in post-order", async (t) => {
  const service = new Service();
  const map_fd = create(service, { ...TRIE, max_entries: 16 });
  const inOrder = [
    prefix(32, 10, 1, 2, 3),
    prefix(24, 10, 1, 2),
    prefix(9, 10),
    prefix(16, 10, 129),
    prefix(9, 10, 128),
    prefix(8, 10),
    prefix(8, 11),
    prefix(1),
    prefix(32, 255, 255, 255, 255),
    prefix(0, 0),
  ];
  for (const key of [...inOrder].sort()) update(service, map_fd, key, key.slice(0, 8));
  t.same(
    walk(service, map_fd).map(([key]) => key),
    inOrder,
  );
  for (const [from, next] of [
    [prefix(31, 10, 1, 2, 3), inOrder[0]],
    [prefix(33), inOrder[0]],
    [prefix(9, 10, 255), inOrder[5]],
  ] as const)
    t.equal(
      service.bpf({ cmd: "BPF_MAP_GET_NEXT_KEY", attr: { map_fd, key: from } }).attr.next_key,
      next,
      `after ${from}`,
    );
  t.equal(service.bpf({ cmd: "BPF_MAP_GET_NEXT_KEY", attr: { map_fd, key: prefix(0, 9) } }).errno, "ENOENT");
});

/** A prefix as its bits, "00001010"; what is behind them does not count. */
function bitsOf(key: string): string {
  const data = [...Buffer.from(key.slice(8), "hex")].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  return data.slice(0, Buffer.from(key, "hex").readUInt32LE(0));
}

/** Of two nested prefixes the longer comes first, disjoint ones come in the order of their bits. */
function postOrder(a: string, b: string): number {
  if (a === b) return 0;
  if (a.startsWith(b)) return -1;
  if (b.startsWith(a)) return 1;
  return a < b ? -1 : 1;
}

/** Prefixes that often share bits: runs of a few bytes, cut anywhere. */
function prefixes(dataBytes: number): fc.Arbitrary<string> {
  const byte = fc.constantFrom(0, 0, 0, 1, 0x0a, 0x80, 0xff);
  const data = fc.array(byte, { minLength: dataBytes, maxLength: dataBytes, size: "max" });
  const bits = fc.oneof(
    fc.integer({ min: 0, max: dataBytes * 8 }),
    fc.integer({ min: 0, max: Math.min(dataBytes * 8, 12) }),
  );
  return fc.tuple(bits, data).map(([length, bytes]) => u32(length) + Buffer.from(bytes).toString("hex"));
}

for (const dataBytes of [1, 2, 4, 16, 256])
  t.test(
    `BPF_MAP_TYPE_LPM_TRIE finds the longest match, as looking at every prefix does: ${dataBytes} bytes of data`,
    async () => {
      const change = fc.record({ do: fc.constantFrom("update", "update", "delete"), key: prefixes(dataBytes) });
      fc.assert(
        fc.property(
          fc.array(change, { maxLength: 40 }),
          fc.array(prefixes(dataBytes), { maxLength: 20 }),
          (changes, asked) => {
            const service = new Service();
            const map_fd = create(service, { ...TRIE, key_size: 4 + dataBytes, max_entries: 64 });
            const model = new Map<string, { key: string; value: string }>();
            for (const [at, { do: what, key }] of changes.entries()) {
              const known = model.has(bitsOf(key));
              if (what === "update") {
                model.set(bitsOf(key), { key, value: u32(at) });
                update(service, map_fd, key, u32(at));
              } else {
                const { errno } = service.bpf({ cmd: "BPF_MAP_DELETE_ELEM", attr: { map_fd, key } });
                if ((errno === null) !== known) throw new Error(`delete ${key}: ${errno}`);
                model.delete(bitsOf(key));
              }
            }
            for (const key of [...asked, ...changes.map((one) => one.key)]) {
              const bits = bitsOf(key);
              const covering = [...model.keys()]
                .filter((one) => bits.startsWith(one))
                .sort((a, b) => b.length - a.length);
              const found = service.bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd, key } }).attr.value;
              const right = model.get(covering[0] ?? "none")?.value;
              if (found !== right) throw new Error(`lookup ${key}: found ${found}, and ${right} is right`);
            }
            const inOrder = [...model].sort(([a], [b]) => postOrder(a, b)).map(([, { key, value }]) => [key, value]);
            const walked = walk(service, map_fd);
            if (JSON.stringify(walked) !== JSON.stringify(inOrder))
              throw new Error(`walked ${walked}, and ${inOrder} is right`);
            if (service.entryCount(map_fd) !== model.size)
              throw new Error(`counts ${service.entryCount(map_fd)} of ${model.size}`);
          },
        ),
        { seed: SEED, numRuns: dataBytes > 100 ? 40 : 150 },
      );
    },
  );
