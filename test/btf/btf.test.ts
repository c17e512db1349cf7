import type { Subject } from "../../conformance/subject.ts";
import { BPF_F } from "../../src/abi/bpf.ts";
import { BTF_KIND } from "../../src/maps/btf_types.ts";
import { ask, climb, create, succeed, u32, update } from "../maps/ladder.ts";
import { NOT_OPEN, onBoth, onService } from "../maps/subjects.ts";
import { BtfBlob, commonTypes, loadBtf } from "./btf_blob.ts";

const HASH = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 12, max_entries: 4 };
const { BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG, BPF_F_NO_PREALLOC } = BPF_F;
const ONE = u32(1);
/** Bytes 4 to 7 are the lock's. */
const GIVEN = "1111111122222222aaaaaaaa";
const KEPT = "1111111100000000aaaaaaaa";

function numbers(): BtfBlob {
  const blob = new BtfBlob();
  blob.int("u32", 4);
  return blob;
}

/** A blob with one byte or word other than it is. */
function spoilt(offset: number, hex: string): Record<string, unknown> {
  const bytes = numbers().bytes();
  Buffer.from(hex, "hex").copy(bytes, offset);
  return { btf: bytes.toString("hex"), btf_size: bytes.length };
}

/** A blob whose one type, an integer of 16 bytes, ends after so many. */
function cutTo(bytes: number): string {
  const [good, strings] = [numbers().bytes(), Buffer.from("\0u32\0", "latin1")];
  const header = Buffer.from(good.subarray(0, 24));
  header.writeUInt32LE(bytes, 12);
  header.writeUInt32LE(bytes, 16);
  return Buffer.concat([header, good.subarray(24, 24 + bytes), strings]).toString("hex");
}

function withLock(subject: Subject): Record<string, unknown> {
  const { fd, u32: key, locked12 } = commonTypes(subject);
  return { ...HASH, btf_fd: fd, btf_key_type_id: key, btf_value_type_id: locked12 };
}

onBoth("BPF_BTF_LOAD refuses in the kernel's order", (t, subject) => {
  const good = numbers().bytes();
  const hex = good.toString("hex");
  const [halfType, restless] = [4, 12].map((bytes) => cutTo(bytes)) as [string, string];
  const length = good.length;
  climb(t, subject, "BPF_BTF_LOAD", [
    { refuses: "more than 16 MiB", attr: { btf_size: 16 * 1024 * 1024 + 1 }, errno: "E2BIG", detail: /btf_size/ },
    { refuses: "a null pointer", attr: { btf_size: length }, errno: "EFAULT" },
    { refuses: "fewer bytes than it is told", attr: { btf: hex.slice(2), btf_size: length }, errno: "EFAULT" },
    { refuses: "nothing", attr: { btf_size: 0 }, errno: "EINVAL", detail: /header/ },
    { refuses: "half a header", attr: { btf: hex, btf_size: 23 }, errno: "EINVAL", detail: /header/ },
    { refuses: "another magic", attr: spoilt(0, "9eeb0201"), errno: "EINVAL", detail: /magic/ },
    { refuses: "another version", attr: spoilt(2, "0201"), errno: "ENOTSUPP", detail: /version/ },
    { refuses: "flags", attr: spoilt(3, "01"), errno: "ENOTSUPP", detail: /flags/ },
    { refuses: "no types", attr: spoilt(12, u32(0)), errno: "EINVAL", detail: /sections/ },
    { refuses: "types that are too long", attr: spoilt(12, u32(4000)), errno: "EINVAL", detail: /sections/ },
    { refuses: "bytes behind the strings", attr: { btf: `${hex}00`, btf_size: length + 1 }, errno: "EINVAL" },
    { refuses: "strings that do not begin with NUL", attr: spoilt(length - 5, "41"), errno: "EINVAL", detail: /NUL/ },
    { refuses: "strings that do not end with NUL", attr: spoilt(length - 1, "41"), errno: "EINVAL", detail: /NUL/ },
    {
      refuses: "half a type",
      attr: { btf: halfType, btf_size: halfType.length / 2 },
      errno: "EINVAL",
      detail: /middle/,
    },
    {
      refuses: "a type without its rest",
      attr: { btf: restless, btf_size: restless.length / 2 },
      errno: "EINVAL",
      detail: /middle/,
    },
    { refuses: "an unknown kind", attr: spoilt(24 + 7, "1f"), errno: "EINVAL", detail: /unknown kind/ },
    { refuses: "a name behind the strings", attr: spoilt(24, u32(9)), errno: "EINVAL", detail: /name/ },
    {
      refuses: "what is well-formed, and no more of it than it is told",
      attr: { btf: `${hex}ff`, btf_size: length },
      errno: null,
    },
  ]);
});

/** Structs in which a lock stands, and what BPF_BTF_LOAD says to each. */
for (const [what, errno, build] of [
  ["a lock that is a member", null, (lock) => [["lock", lock, 0]]],
  [
    "two of them",
    "E2BIG",
    (lock) => [
      ["a", lock, 0],
      ["b", lock, 8],
    ],
  ],
  ["one that lies crookedly", "EFAULT", (lock) => [["a", lock, 2]]],
  [
    "a crooked one in front of another",
    "E2BIG",
    (lock) => [
      ["a", lock, 2],
      ["b", lock, 8],
    ],
  ],
  [
    "a lock behind its like",
    "EINVAL",
    (lock, resilient) => [
      ["a", resilient, 0],
      ["b", lock, 8],
    ],
  ],
  [
    "two locks of the other kind, which programs do not allocate",
    null,
    (_, resilient) => [
      ["a", resilient, 0],
      ["b", resilient, 8],
    ],
  ],
  [
    "a lock on a lock",
    "EEXIST",
    (lock, resilient) => [
      ["a", resilient, 0],
      ["b", lock, 0],
    ],
  ],
] as readonly (readonly [string, string | null, (lock: number, resilient: number) => [string, number, number][]])[])
  onBoth(`BPF_BTF_LOAD of a struct with ${what}`, (t, subject) => {
    const blob = new BtfBlob();
    const int = blob.int("u32", 4);
    const lock = blob.struct("bpf_spin_lock", 4, [["val", int, 0]]);
    const resilient = blob.struct("bpf_res_spin_lock", 4, [["val", int, 0]]);
    blob.struct("locked", 16, build(lock, resilient));
    const bytes = blob.bytes();
    const attr = { btf: bytes.toString("hex"), btf_size: bytes.length };
    t.equal(ask(subject, "BPF_BTF_LOAD", attr), errno);
  });

onBoth("BPF_BTF_LOAD of a bpf_spin_lock of another size finds nothing in what has it", (t, subject) => {
  const blob = numbers();
  const lock = blob.struct("bpf_spin_lock", 8, [["val", 1, 0]]);
  blob.struct("locked", 16, [["lock", lock, 0]]);
  const bytes = blob.bytes();
  t.equal(ask(subject, "BPF_BTF_LOAD", { btf: bytes.toString("hex"), btf_size: bytes.length }), "EFAULT");
});

/** What types say of each other. */
for (const [what, errno, build] of [
  ["a struct in itself", "EEXIST", (blob) => blob.struct("a", 8, [["x", 2, 0]])],
  ["an array of itself", "EEXIST", (blob) => blob.add(BTF_KIND.ARRAY, "", 0, 0, [2, 1, 1])],
  ["two names of each other", "EEXIST", (blob) => [3, 2].map((of) => blob.add(BTF_KIND.TYPEDEF, "name", of))],
  ["a pointer to itself", "EEXIST", (blob) => blob.add(BTF_KIND.PTR, "", 2)],
  [
    "a struct with a pointer to itself",
    null,
    (blob) => [blob.struct("a", 8, [["x", 3, 0]]), blob.add(BTF_KIND.PTR, "", 2)],
  ],
  ["a member of no type", "EINVAL", (blob) => blob.struct("a", 8, [["x", 9, 0]])],
  ["a member of void", "EINVAL", (blob) => blob.struct("a", 8, [["x", 0, 0]])],
  ["a member beyond its struct", "EINVAL", (blob) => blob.struct("a", 8, [["x", 1, 6]])],
  [
    "members that go back",
    "EINVAL",
    (blob) =>
      blob.struct("a", 8, [
        ["x", 1, 4],
        ["y", 1, 0],
      ]),
  ],
  ["an array of more than 4 GiB", "EINVAL", (blob) => blob.add(BTF_KIND.ARRAY, "", 0, 0, [1, 1, 2 ** 31 - 1])],
  ["32 structs in one another, outermost first", null, (blob) => nest(blob, 32)],
  ["33 structs in one another, outermost first", "E2BIG", (blob) => nest(blob, 33)],
  ["40 structs in one another, innermost first", null, (blob) => nest(blob, 40, -1)],
] as readonly (readonly [string, string | null, (blob: BtfBlob) => unknown])[])
  onBoth(`BPF_BTF_LOAD of ${what}`, (t, subject) => {
    const blob = numbers();
    build(blob);
    const bytes = blob.bytes();
    t.equal(ask(subject, "BPF_BTF_LOAD", { btf: bytes.toString("hex"), btf_size: bytes.length }), errno);
  });

/** `step` 1: each struct has the one that comes next; -1: the one that came before. */
function nest(blob: BtfBlob, depth: number, step: 1 | -1 = 1): void {
  for (let id = 2; id < depth + 2; id++) blob.struct(`s${id}`, 4, [["x", id + step, 0]]);
  blob.int("last", 4);
}

/** The kernel looks into it as often as there are ways to it, which takes minutes. */
onService("BPF_MAP_CREATE looks once into a struct that is in many others", (t, subject) => {
  const blob = numbers();
  let type = blob.struct("s", 1);
  for (let at = 0; at < 30; at++)
    type = blob.struct(`s${at}`, 2 ** (at + 1), [
      ["a", type, 0],
      ["b", type, 2 ** at],
    ]);
  const types = { btf_fd: loadBtf(subject, blob.bytes()), btf_key_type_id: 1, btf_value_type_id: type };
  const map = { map_type: "BPF_MAP_TYPE_ARRAY", key_size: 4, value_size: 2 ** 30, max_entries: 1 };
  t.equal(ask(subject, "BPF_MAP_CREATE", { ...map, ...types }), null);
});

onBoth("BPF_MAP_CREATE checks BTF in the kernel's order", (t, subject) => {
  const btf = commonTypes(subject);
  const pipe = succeed(subject.open({ kind: "pipe" })).ret;
  const map = create(subject, HASH);
  const both = { btf_fd: btf.fd, map_flags: BPF_F_RDONLY_PROG, btf_key_type_id: 99, btf_value_type_id: 99 };
  const worst = { ...HASH, ...both, btf_fd: NOT_OPEN };
  const sized = { ...HASH, ...both, btf_key_type_id: btf.u32, btf_value_type_id: btf.locked12 };
  climb(t, subject, "BPF_MAP_CREATE", [
    {
      refuses: "a type of the kernel's own with another map type",
      attr: { ...worst, btf_vmlinux_value_type_id: 1, max_entries: 0 },
      errno: "EINVAL",
      detail: /only allowed for BPF_MAP_TYPE_STRUCT_OPS/,
    },
    {
      refuses: "a key type alone",
      attr: { ...worst, btf_value_type_id: 0, max_entries: 0 },
      errno: "EINVAL",
      detail: /without btf_value_type_id/,
    },
    {
      refuses: "no entries",
      attr: { ...worst, max_entries: 0, map_name: "a-b" },
      errno: "EINVAL",
      detail: /max_entries/,
    },
    { refuses: "a bad name", attr: { ...worst, map_name: "a-b" }, errno: "EINVAL", detail: /map_name/ },
    { refuses: "BTF that is not open", attr: worst, errno: "EBADF", detail: /btf_fd/ },
    { refuses: "a pipe", attr: { ...worst, btf_fd: pipe }, errno: "EINVAL", detail: /btf_fd/ },
    { refuses: "a map", attr: { ...worst, btf_fd: map }, errno: "EINVAL", detail: /btf_fd/ },
    { refuses: "a key type that there is not", attr: { ...HASH, ...both }, errno: "EINVAL", detail: /btf_key_type_id/ },
    {
      refuses: "a key type of another size",
      attr: { ...HASH, ...both, btf_key_type_id: btf.u64 },
      errno: "EINVAL",
      detail: /btf_key_type_id/,
    },
    {
      refuses: "a value type that there is not",
      attr: { ...sized, btf_value_type_id: 99 },
      errno: "EINVAL",
      detail: /btf_value_type_id/,
    },
    {
      refuses: "a value type of another size",
      attr: { ...sized, btf_value_type_id: btf.u32 },
      errno: "EINVAL",
      detail: /btf_value_type_id/,
    },
    {
      refuses: "a value type without a key type",
      attr: { ...sized, btf_key_type_id: 0 },
      errno: "EINVAL",
      detail: /without btf_key_type_id/,
    },
    { refuses: "a lock that programs may not write", attr: sized, errno: "EACCES", detail: /bpf_spin_lock/ },
    {
      refuses: "a lock that programs may not read, in a type without locks",
      attr: { ...sized, map_type: "BPF_MAP_TYPE_PERCPU_HASH", map_flags: BPF_F_WRONLY_PROG },
      errno: "EACCES",
    },
    {
      refuses: "a lock in a type without locks",
      attr: { ...sized, map_type: "BPF_MAP_TYPE_PERCPU_HASH", map_flags: 0 },
      errno: "EOPNOTSUPP",
      detail: /bpf_spin_lock/,
    },
    {
      refuses: "half of an exclusive program",
      attr: { ...sized, map_flags: 0, excl_prog_hash_size: 1 },
      errno: "EINVAL",
    },
    {
      refuses: "an exclusive program's hash that is short",
      attr: { ...sized, map_flags: 0, excl_prog_hash: "11".repeat(31), excl_prog_hash_size: 32 },
      errno: "EFAULT",
      detail: /excl_prog_hash/,
    },
    { refuses: "a lock in a hash", attr: { ...sized, map_flags: 0 }, errno: null },
    {
      refuses: "a key by another name",
      attr: { ...sized, map_flags: 0, btf_key_type_id: btf.typedef4 },
      errno: null,
    },
  ]);
});

onBoth("BPF_MAP_CREATE asks each map type for the BTF of its keys", (t, subject) => {
  const btf = commonTypes(subject);
  const { u32: int, u64: long, plain8, prefix8, storageKey16, otherKey16 } = btf;
  for (const [map_type, key, key_size, errno, more] of [
    ["HASH", plain8, 8, null, {}],
    ["LRU_HASH", otherKey16, 16, null, {}],
    ["ARRAY", int, 4, null, {}],
    ["PERCPU_ARRAY", int, 4, null, {}],
    ["PERCPU_ARRAY", btf.typedef4, 4, null, {}],
    ["LPM_TRIE", prefix8, 8, null, { map_flags: BPF_F_NO_PREALLOC }],
    ["LPM_TRIE", long, 8, "EINVAL", { map_flags: BPF_F_NO_PREALLOC }],
    ["CGROUP_STORAGE", long, 8, null, { max_entries: 0 }],
    ["CGROUP_STORAGE", plain8, 8, "EINVAL", { max_entries: 0 }],
    ["CGROUP_STORAGE", storageKey16, 16, null, { max_entries: 0 }],
    ["PERCPU_CGROUP_STORAGE", otherKey16, 16, "EINVAL", { max_entries: 0 }],
    ["DEVMAP", int, 4, "ENOTSUPP", {}],
    ["DEVMAP_HASH", int, 4, "ENOTSUPP", {}],
    ["CPUMAP", int, 4, "ENOTSUPP", {}],
    ["SOCKMAP", int, 4, "ENOTSUPP", {}],
    ["SOCKHASH", int, 4, "ENOTSUPP", {}],
    ["STACK_TRACE", int, 4, "ENOTSUPP", {}],
    ["REUSEPORT_SOCKARRAY", int, 4, null, {}],
  ] as const) {
    const attr = {
      map_type: `BPF_MAP_TYPE_${map_type}`,
      key_size,
      value_size: 8,
      max_entries: 1,
      btf_fd: btf.fd,
      btf_key_type_id: key,
      btf_value_type_id: long,
      ...more,
    };
    t.equal(ask(subject, "BPF_MAP_CREATE", attr), errno, `${map_type} with type ${key}`);
  }
  for (const [map_type, errno] of [
    ["PROG_ARRAY", null],
    ["PERF_EVENT_ARRAY", "ENOTSUPP"],
    ["CGROUP_ARRAY", "ENOTSUPP"],
    ["XSKMAP", "ENOTSUPP"],
  ] as const) {
    const types = { btf_fd: btf.fd, btf_key_type_id: int, btf_value_type_id: int };
    const attr = { map_type: `BPF_MAP_TYPE_${map_type}`, key_size: 4, value_size: 4, max_entries: 1, ...types };
    t.equal(ask(subject, "BPF_MAP_CREATE", attr), errno, map_type);
  }
});

onBoth("BPF_MAP_CREATE needs no BTF of keys where there are none, or one data section", (t, subject) => {
  const blob = numbers();
  const variable = blob.add(BTF_KIND.VAR, "number", 1, 0, [1]);
  const section = blob.add(BTF_KIND.DATASEC, "data", 4, 1, [variable, 0, 4]);
  const types = { btf_fd: loadBtf(subject, blob.bytes()), btf_value_type_id: section };
  const one = { map_type: "BPF_MAP_TYPE_ARRAY", key_size: 4, value_size: 4, max_entries: 1, ...types };
  for (const [attr, errno] of [
    [one, null],
    [{ ...one, max_entries: 2 }, "EINVAL"],
    [{ ...one, btf_value_type_id: 1 }, "EINVAL"],
    [{ ...one, map_type: "BPF_MAP_TYPE_PERCPU_ARRAY" }, "EINVAL"],
    [{ ...one, map_type: "BPF_MAP_TYPE_HASH" }, "EINVAL"],
    [{ ...one, map_type: "BPF_MAP_TYPE_BLOOM_FILTER", key_size: 0, btf_value_type_id: 1 }, null],
    [{ ...one, map_type: "BPF_MAP_TYPE_QUEUE", key_size: 0, btf_value_type_id: 1 }, "EINVAL"],
  ] as const)
    t.equal(ask(subject, "BPF_MAP_CREATE", attr), errno, JSON.stringify(attr));
});

for (const [map_type, errno] of [
  ["BPF_MAP_TYPE_HASH", null],
  ["BPF_MAP_TYPE_ARRAY", null],
  ["BPF_MAP_TYPE_LRU_HASH", "timer"],
  ["BPF_MAP_TYPE_PERCPU_HASH", "none"],
  ["BPF_MAP_TYPE_PERCPU_ARRAY", "none"],
  ["BPF_MAP_TYPE_LRU_PERCPU_HASH", "none"],
] as const)
  onBoth(`${map_type} and special fields in its values`, (t, subject) => {
    const btf = commonTypes(subject);
    const made = (value_size: number, btf_value_type_id: number): unknown => {
      const types = { btf_fd: btf.fd, btf_key_type_id: btf.u32, btf_value_type_id };
      return ask(subject, "BPF_MAP_CREATE", { ...HASH, map_type, value_size, ...types });
    };
    t.equal(made(12, btf.locked12), errno === null ? null : "EOPNOTSUPP", "a lock");
    t.equal(made(24, btf.timed24), errno === "none" ? "EOPNOTSUPP" : null, "a timer");
    t.equal(made(24, btf.crooked24), null, "a timer that lies crookedly is none");
  });

/** map_check_btf() passes over what it cannot make sense of: such values are bytes like others. */
for (const [what, size, build] of [
  [
    "two timers",
    32,
    (_, timer) => [
      ["a", timer, 0],
      ["b", timer, 16],
    ],
  ],
  ["a timer at 4", 24, (_, timer) => [["a", timer, 4]]],
  ["a lock in an array of two", 8, (locks) => [["a", locks, 0]]],
] as readonly (readonly [string, number, (locks: number, timer: number) => [string, number, number][]])[])
  onBoth(`a value with ${what} has no special fields`, (t, subject) => {
    const blob = new BtfBlob();
    const [int, long] = [blob.int("u32", 4), blob.int("u64", 8)];
    const lock = blob.struct("bpf_spin_lock", 4, [["val", int, 0]]);
    const locks = blob.add(BTF_KIND.ARRAY, "", 0, 0, [lock, int, 2]);
    const timer = blob.struct("bpf_timer", 16, [
      ["a", long, 0],
      ["b", long, 8],
    ]);
    const btf_value_type_id = blob.struct("value", size, build(locks, timer));
    const types = { btf_fd: loadBtf(subject, blob.bytes()), btf_key_type_id: int, btf_value_type_id };
    const map_fd = create(subject, { ...HASH, value_size: size, map_flags: BPF_F_RDONLY_PROG, ...types });
    update(subject, map_fd, ONE, "ff".repeat(size));
    t.equal(ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: ONE }), "ff".repeat(size));
    t.equal(ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: ONE, flags: 4 }), "EINVAL");
    t.equal(ask(subject, "BPF_MAP_FREEZE", { map_fd }), null);
  });

onBoth("a lock in 40 structs, innermost first, is none; in 30 it is", (t, subject) => {
  for (const [depth, kept] of [
    [30, "00000000"],
    [40, "ffffffff"],
  ] as const) {
    const blob = numbers();
    let type = blob.struct("bpf_spin_lock", 4, [["val", 1, 0]]);
    for (let at = 0; at < depth; at++) type = blob.struct(`s${at}`, 4, [["x", type, 0]]);
    const types = { btf_fd: loadBtf(subject, blob.bytes()), btf_key_type_id: 1, btf_value_type_id: type };
    const map_fd = create(subject, { ...HASH, value_size: 4, ...types });
    update(subject, map_fd, ONE, "ffffffff");
    t.equal(ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: ONE }), kept, `${depth} structs`);
  }
});

/** The kernel keeps eleven as we do, but warns of it in its own log. */
for (const [count, kept, on] of [
  [11, "00", onService],
  [12, "ff", onBoth],
] as const)
  on(`of ${count} locks in structs of their own ${kept === "00" ? "each" : "none"} is one`, (t, subject) => {
    const blob = numbers();
    const lock = blob.struct("bpf_res_spin_lock", 4, [["val", 1, 0]]);
    const locked = blob.struct("locked", 4, [["lock", lock, 0]]);
    const members = Array.from({ length: count }, (_, at) => [`l${at}`, locked, at * 4] as const);
    const all = blob.struct("all", count * 4, members);
    const types = { btf_fd: loadBtf(subject, blob.bytes()), btf_key_type_id: 1, btf_value_type_id: all };
    const map_fd = create(subject, { ...HASH, value_size: count * 4, ...types });
    update(subject, map_fd, ONE, "ff".repeat(count * 4));
    t.equal(ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: ONE }), kept.repeat(count * 4));
  });

onBoth("special fields are found in nested structs and arrays of one", (t, subject) => {
  const blob = new BtfBlob();
  const int = blob.int("u32", 4);
  const lock = blob.struct("bpf_spin_lock", 4, [["val", int, 0]]);
  const inner = blob.struct("inner", 8, [
    ["a", int, 0],
    ["lock", lock, 4],
  ]);
  const array = blob.add(BTF_KIND.ARRAY, "", 0, 0, [inner, int, 1]);
  const value = blob.struct("value", 16, [
    ["a", int, 0],
    ["inners", array, 4],
    ["b", int, 12],
  ]);
  const types = { btf_fd: loadBtf(subject, blob.bytes()), btf_key_type_id: int, btf_value_type_id: value };
  const map_fd = create(subject, { ...HASH, value_size: 16, ...types });
  update(subject, map_fd, ONE, "ff".repeat(16));
  const kept = "ffffffffffffffff00000000ffffffff";
  t.equal(ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: ONE }), kept);
});

for (const map_type of ["BPF_MAP_TYPE_HASH", "BPF_MAP_TYPE_ARRAY"])
  onBoth(`${map_type} never copies a lock, and lets BPF_F_LOCK be`, (t, subject) => {
    const map_fd = create(subject, { ...withLock(subject), map_type });
    const plain = create(subject, { ...HASH, map_type });
    const look = (flags: number): unknown => ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: ONE, flags });
    const put = (flags: number): unknown =>
      ask(subject, "BPF_MAP_UPDATE_ELEM", { map_fd, key: ONE, value: GIVEN, flags });
    const hash = map_type === "BPF_MAP_TYPE_HASH";

    t.equal(put(6), hash ? "ENOENT" : null, "BPF_F_LOCK with BPF_EXIST");
    t.equal(put(5), hash ? null : "EEXIST", "BPF_F_LOCK with BPF_NOEXIST");
    t.equal(put(5), "EEXIST");
    t.equal(put(7), "EINVAL", "BPF_F_LOCK with both");
    t.equal(put(8), "EINVAL");
    t.equal(put(4), null);
    t.same([look(0), look(4), look(5)], [KEPT, KEPT, "EINVAL"]);
    for (const flags of [4, 5, 6, 7]) {
      const attr = { map_fd: plain, key: ONE, value: GIVEN, flags };
      t.equal(ask(subject, "BPF_MAP_UPDATE_ELEM", attr), "EINVAL", `flags ${flags} without a lock`);
    }

    const written = { map_fd, keys: u32(2) + u32(3), values: GIVEN + GIVEN, count: 2, elem_flags: 4 };
    t.same(subject.bpf({ cmd: "BPF_MAP_UPDATE_BATCH", attr: written }).attr, { count: 2 });
    const read = subject.bpf({ cmd: "BPF_MAP_LOOKUP_BATCH", attr: { map_fd, count: 8, elem_flags: 4 } });
    t.same([read.errno, read.attr.values?.split(KEPT).length], ["ENOENT", 4], "a batch takes BPF_F_LOCK");
    for (const cmd of ["BPF_MAP_UPDATE_BATCH", "BPF_MAP_LOOKUP_BATCH"])
      climb(t, subject, cmd, [
        {
          refuses: "BPF_F_LOCK without a lock",
          attr: { ...written, map_fd: plain },
          errno: "EINVAL",
          detail: /BPF_F_LOCK/,
        },
        { refuses: "BPF_NOEXIST", attr: { ...written, elem_flags: 5 }, errno: "EINVAL", detail: /elem_flags/ },
      ]);
    if (hash) t.equal(ask(subject, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", { map_fd, key: ONE, flags: 4 }), KEPT);
  });

onBoth("a map with a special field cannot be frozen, whatever else", (t, subject) => {
  const map_fd = create(subject, withLock(subject));
  const readonly = create(subject, { ...withLock(subject), map_flags: BPF_F.BPF_F_RDONLY });
  climb(t, subject, "BPF_MAP_FREEZE", [
    { refuses: "a descriptor that is not open", attr: { map_fd: NOT_OPEN }, errno: "EBADF" },
    { refuses: "a lock, with a descriptor for reading", attr: { map_fd: readonly }, errno: "ENOTSUPP" },
    { refuses: "a lock", attr: { map_fd }, errno: "ENOTSUPP", detail: /bpf_spin_lock/ },
  ]);
  update(subject, map_fd, ONE, GIVEN);
  t.equal(ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: ONE }), KEPT, "it is not");
});

onBoth("maps keep what they were described by when its descriptor is closed", (t, subject) => {
  const attr = withLock(subject);
  const map_fd = create(subject, attr);
  subject.close(attr.btf_fd as number);
  update(subject, map_fd, ONE, GIVEN);
  t.equal(ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: ONE }), KEPT);
  t.equal(ask(subject, "BPF_MAP_CREATE", attr), "EBADF");
  const outer = { map_type: "BPF_MAP_TYPE_ARRAY_OF_MAPS", key_size: 4, value_size: 4, max_entries: 1 };
  const outer_fd = create(subject, { ...outer, inner_map_fd: map_fd });
  climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
    {
      refuses: "an inner map without the template's lock",
      attr: { map_fd: outer_fd, key: u32(0), value: u32(create(subject, HASH)) },
      errno: "EINVAL",
      detail: /special fields/,
    },
    { refuses: "one with it", attr: { map_fd: outer_fd, key: u32(0), value: u32(map_fd) }, errno: null },
  ]);
});
