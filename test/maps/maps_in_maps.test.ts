import type { Subject } from "../../conformance/subject.ts";
import { BPF_F, BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { ask, climb, create, goes, infoOf, lives, split, u32, update, walk } from "./ladder.ts";
import { climbShared } from "./shared_guards.ts";
import { NOT_OPEN, onBoth, onService } from "./subjects.ts";

const { BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS, BPF_MAP_TYPE_PROG_ARRAY } =
  BPF_MAP_TYPE;
const INNER = { map_type: BPF_MAP_TYPE_ARRAY, key_size: 4, value_size: 4, max_entries: 2 };

function idOf(subject: Subject, fd: number): number {
  return infoOf(subject, fd).id;
}

for (const [name, map_type] of Object.entries({ BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS })) {
  const shape = { map_type, key_size: 4, value_size: 4, max_entries: 2 };

  onBoth(`${name} create looks at its template in the kernel's order`, (t, subject) => {
    const programs = create(subject, { ...INNER, map_type: BPF_MAP_TYPE_PROG_ARRAY });
    const inner = create(subject, INNER);
    const outer = create(subject, { ...shape, inner_map_fd: inner });
    const pipe = subject.open({ kind: "pipe" }).ret;
    climb(t, subject, "BPF_MAP_CREATE", [
      { refuses: "values that are no ids", attr: { ...shape, value_size: 8, inner_map_fd: NOT_OPEN }, errno: "EINVAL" },
      { refuses: "a template that is not open", attr: { ...shape, inner_map_fd: NOT_OPEN }, errno: "EBADF" },
      { refuses: "a template that is no map", attr: { ...shape, inner_map_fd: pipe }, errno: "EINVAL" },
      { refuses: "a map of maps", attr: { ...shape, inner_map_fd: outer }, errno: "EINVAL" },
      { refuses: "a map of programs", attr: { ...shape, inner_map_fd: programs }, errno: "ENOTSUPP" },
      { refuses: "nothing", attr: { ...shape, inner_map_fd: inner }, errno: null },
    ]);
  });

  onBoth(`${name} takes descriptors of maps like its template, and gives ids`, (t, subject) => {
    const inner = create(subject, INNER);
    const map_fd = create(subject, { ...shape, inner_map_fd: inner });
    const put = (value: number) => ({ map_fd, key: u32(0), value: u32(value) });
    climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
      { refuses: "a descriptor that is not open", attr: put(NOT_OPEN), errno: "EBADF" },
      {
        refuses: "another number of entries",
        attr: put(create(subject, { ...INNER, max_entries: 3 })),
        errno: "EINVAL",
        detail: /max_entries/,
      },
      {
        refuses: "other flags",
        attr: put(create(subject, { ...INNER, map_flags: BPF_F.BPF_F_MMAPABLE })),
        errno: "EINVAL",
        detail: /map_flags/,
      },
      { refuses: "nothing", attr: put(inner), errno: null },
    ]);
    const found = subject.bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd, key: u32(0) } });
    t.equal(found.attr.value, u32(idOf(subject, inner)));
  });

  onBoth(`${name} keeps inner maps alive, until they are replaced, deleted, or it goes itself`, (t, subject) => {
    const template = create(subject, INNER);
    const map_fd = create(subject, { ...shape, inner_map_fd: template });
    const [first, second, third] = [1, 2, 3].map(() => create(subject, INNER)) as [number, number, number];
    const ids = [first, second, third].map((fd) => idOf(subject, fd)) as [number, number, number];
    update(subject, map_fd, u32(0), u32(first));
    update(subject, map_fd, u32(1), u32(third));
    for (const fd of [first, third]) subject.close(fd);
    t.ok(lives(subject, ids[0]) && lives(subject, ids[2]), "entries hold them");
    update(subject, map_fd, u32(0), u32(second));
    t.notOk(lives(subject, ids[0]), "replaced");
    subject.close(second);
    subject.bpf({ cmd: "BPF_MAP_DELETE_ELEM", attr: { map_fd, key: u32(0) } });
    t.notOk(lives(subject, ids[1]), "deleted");
    subject.close(map_fd);
    goes(t, subject, ids[2], "its outer map is gone");
  });
}

const OUTER = { key_size: 4, value_size: 4, max_entries: 2 };
const [ZERO, ONE, TWO] = [u32(0), u32(1), u32(2)];
const { BPF_F_INNER_MAP, BPF_F_NO_PREALLOC, BPF_F_NUMA_NODE, BPF_F_RDONLY, BPF_F_RDONLY_PROG, BPF_F_TOKEN_FD } = BPF_F;

onBoth("BPF_MAP_TYPE_HASH_OF_MAPS BPF_MAP_CREATE refuses in the kernel's order", (t, subject) => {
  const map = { ...OUTER, map_type: BPF_MAP_TYPE_HASH_OF_MAPS };
  const inner_map_fd = create(subject, INNER);
  const last = { ...map, inner_map_fd, max_entries: 2 ** 27 + 1, map_name: "a-b" };
  const template = { ...last, inner_map_fd: NOT_OPEN };
  const token = { ...template, map_flags: BPF_F_TOKEN_FD, map_token_fd: -1 };
  const foreign = { ...token, map_flags: BPF_F_TOKEN_FD | BPF_F.BPF_F_MMAPABLE };
  climb(t, subject, "BPF_MAP_CREATE", [
    {
      refuses: "values that are no ids",
      attr: { ...foreign, value_size: 8, key_size: 0 },
      errno: "EINVAL",
      detail: /value_size/,
    },
    { refuses: "a flag of other types", attr: { ...foreign, key_size: 0 }, errno: "EINVAL", detail: /not among/ },
    { refuses: "no key", attr: { ...token, key_size: 0 }, errno: "EINVAL", detail: /key_size/ },
    { refuses: "a token that is not open", attr: token, errno: "EBADF", detail: /map_token_fd/ },
    { refuses: "a template that is not open", attr: template, errno: "EBADF", detail: /inner_map_fd/ },
    { refuses: "too many entries", attr: last, errno: "E2BIG", detail: /max_entries/ },
    { refuses: "a bad name", attr: { ...last, max_entries: 2 }, errno: "EINVAL", detail: /map_name/ },
    { refuses: "a map that grows", attr: { ...map, inner_map_fd, map_flags: BPF_F_NO_PREALLOC }, errno: null },
  ]);
});

onBoth("BPF_MAP_TYPE_ARRAY_OF_MAPS BPF_MAP_CREATE refuses in the kernel's order", (t, subject) => {
  const map = { ...OUTER, map_type: BPF_MAP_TYPE_ARRAY_OF_MAPS };
  const inner_map_fd = create(subject, INNER);
  const last = { ...map, inner_map_fd, map_name: "a-b" };
  const template = { ...last, inner_map_fd: NOT_OPEN };
  const token = { ...template, map_flags: BPF_F_TOKEN_FD, map_token_fd: -1 };
  const foreign = { ...token, map_flags: BPF_F_TOKEN_FD | BPF_F_RDONLY_PROG };
  const value = { ...token, value_size: 8 };
  climb(t, subject, "BPF_MAP_CREATE", [
    {
      refuses: "no entries",
      attr: { ...foreign, value_size: 8, key_size: 8, max_entries: 0 },
      errno: "EINVAL",
      detail: /max_entries/,
    },
    {
      refuses: "a key that is no u32",
      attr: { ...foreign, value_size: 8, key_size: 8 },
      errno: "EINVAL",
      detail: /key_size/,
    },
    {
      refuses: "a flag of other types",
      attr: { ...foreign, value_size: 8 },
      errno: "EINVAL",
      detail: /not among/,
    },
    { refuses: "values that are no ids", attr: value, errno: "EINVAL", detail: /value_size/ },
    { refuses: "a token that is not open", attr: token, errno: "EBADF", detail: /map_token_fd/ },
    { refuses: "a template that is not open", attr: template, errno: "EBADF", detail: /inner_map_fd/ },
    { refuses: "a bad name", attr: last, errno: "EINVAL", detail: /map_name/ },
  ]);
});

onBoth("BPF_MAP_TYPE_HASH_OF_MAPS elements are refused in the kernel's order", (t, subject) => {
  const inner = create(subject, INNER);
  const map = { ...OUTER, map_type: BPF_MAP_TYPE_HASH_OF_MAPS, inner_map_fd: inner };
  climbShared(t, subject, { map, key: TWO, flags: 3 });
  const map_fd = create(subject, map);
  const pipe = subject.open({ kind: "pipe" }).ret;
  const other = create(subject, { ...INNER, value_size: 8 });
  update(subject, map_fd, ZERO, u32(inner));
  update(subject, map_fd, ONE, u32(inner));
  const value = u32(inner);
  climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
    {
      refuses: "a descriptor that is not open",
      attr: { map_fd, key: TWO, value: u32(NOT_OPEN), flags: 3 },
      errno: "EBADF",
    },
    { refuses: "a pipe", attr: { map_fd, key: TWO, value: u32(pipe), flags: 3 }, errno: "EINVAL", detail: /not a map/ },
    {
      refuses: "a map of another shape",
      attr: { map_fd, key: TWO, value: u32(other), flags: 3 },
      errno: "EINVAL",
      detail: /value_size/,
    },
    {
      refuses: "BPF_NOEXIST with BPF_EXIST",
      attr: { map_fd, key: TWO, value, flags: 3 },
      errno: "EINVAL",
      detail: /flags 3/,
    },
    { refuses: "BPF_EXIST of an absent key", attr: { map_fd, key: TWO, value, flags: 2 }, errno: "ENOENT" },
    { refuses: "BPF_NOEXIST of a present key", attr: { map_fd, key: ONE, value, flags: 1 }, errno: "EEXIST" },
    { refuses: "a new key for a full map", attr: { map_fd, key: TWO, value }, errno: "E2BIG" },
    { refuses: "a present key of a full map", attr: { map_fd, key: ONE, value, flags: 2 }, errno: null },
  ]);
  climb(t, subject, "BPF_MAP_LOOKUP_ELEM", [
    { refuses: "an absent key", attr: { map_fd, key: TWO, value: "" }, errno: "ENOENT" },
    { refuses: "no room", attr: { map_fd, key: ONE, value: "000000" }, errno: "EFAULT" },
  ]);
  climb(t, subject, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", [
    { refuses: "any key", attr: { map_fd, key: ONE }, errno: "ENOTSUPP" },
  ]);
  climb(t, subject, "BPF_MAP_DELETE_ELEM", [
    { refuses: "an absent key", attr: { map_fd, key: TWO }, errno: "ENOENT" },
    { refuses: "a present key", attr: { map_fd, key: ONE }, errno: null },
    { refuses: "the same key again", attr: { map_fd, key: ONE }, errno: "ENOENT" },
  ]);
  climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
    { refuses: "a new key where there is room again", attr: { map_fd, key: TWO, value, flags: 1 }, errno: null },
  ]);
});

onBoth("BPF_MAP_TYPE_ARRAY_OF_MAPS elements are refused in the kernel's order", (t, subject) => {
  const inner = create(subject, INNER);
  const map = { ...OUTER, map_type: BPF_MAP_TYPE_ARRAY_OF_MAPS, inner_map_fd: inner };
  climbShared(t, subject, { map, key: TWO, flags: 3 });
  const map_fd = create(subject, map);
  const [value, not] = [u32(inner), u32(NOT_OPEN)];
  for (const flags of [1, 2, 3])
    climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
      {
        refuses: `flags ${flags}`,
        attr: { map_fd, key: TWO, value: not, flags },
        errno: "EINVAL",
        detail: /only BPF_ANY/,
      },
    ]);
  climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
    { refuses: "an index outside", attr: { map_fd, key: TWO, value: not }, errno: "E2BIG" },
    { refuses: "a descriptor that is not open", attr: { map_fd, key: ONE, value: not }, errno: "EBADF" },
    { refuses: "a map", attr: { map_fd, key: ONE, value }, errno: null },
  ]);
  climb(t, subject, "BPF_MAP_LOOKUP_ELEM", [
    { refuses: "an index outside", attr: { map_fd, key: TWO, value: "" }, errno: "ENOENT", detail: /outside/ },
    { refuses: "an empty slot", attr: { map_fd, key: ZERO, value: "" }, errno: "ENOENT", detail: /empty/ },
    { refuses: "no room", attr: { map_fd, key: ONE, value: "000000" }, errno: "EFAULT" },
  ]);
  climb(t, subject, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", [
    { refuses: "any slot", attr: { map_fd, key: ONE }, errno: "ENOTSUPP" },
  ]);
  climb(t, subject, "BPF_MAP_DELETE_ELEM", [
    { refuses: "an index outside", attr: { map_fd, key: TWO }, errno: "E2BIG" },
    { refuses: "an empty slot", attr: { map_fd, key: ZERO }, errno: "ENOENT" },
    { refuses: "a filled slot", attr: { map_fd, key: ONE }, errno: null },
  ]);
  const next = (key: string | null): unknown => ask(subject, "BPF_MAP_GET_NEXT_KEY", { map_fd, key });
  t.same([next(null), next(ZERO), next(ONE), next(TWO)], [ZERO, ONE, "ENOENT", ZERO]);
  climb(t, subject, "BPF_MAP_LOOKUP_AND_DELETE_BATCH", [
    { refuses: "arrays of maps", attr: { map_fd, elem_flags: 1, count: 1 }, errno: "ENOTSUPP" },
  ]);
  climb(t, subject, "BPF_MAP_DELETE_BATCH", [
    { refuses: "arrays of maps", attr: { map_fd, elem_flags: 1, count: 1 }, errno: "ENOTSUPP" },
  ]);
});

onBoth("maps in maps may differ from the template in what programs do not rely on", (t, subject) => {
  const HASH = { map_type: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH, key_size: 4, value_size: 4, max_entries: 2 };
  const XSKMAP = { ...HASH, map_type: BPF_MAP_TYPE.BPF_MAP_TYPE_XSKMAP };
  const grows = { ...INNER, map_flags: BPF_F_INNER_MAP };
  for (const [what, template, inner, detail] of [
    ["entries of a hash", HASH, { ...HASH, max_entries: 5 }, null],
    ["entries of an array", INNER, { ...INNER, max_entries: 5 }, /max_entries/],
    ["entries of an array with BPF_F_INNER_MAP", grows, { ...grows, max_entries: 5 }, null],
    ["BPF_F_INNER_MAP itself", INNER, grows, /map_flags/],
    ["entries of an xskmap", XSKMAP, { ...XSKMAP, max_entries: 5 }, /max_entries/],
    ["the type", INNER, HASH, /map_type/],
    ["the size of a key", HASH, { ...HASH, key_size: 8 }, /key_size/],
    ["the size of a value", HASH, { ...HASH, value_size: 8 }, /value_size/],
    ["preallocation", HASH, { ...HASH, map_flags: BPF_F_NO_PREALLOC }, /map_flags/],
    ["a NUMA node", HASH, { ...HASH, map_flags: BPF_F_NUMA_NODE, numa_node: 0 }, /map_flags/],
    ["a program's mode", HASH, { ...HASH, map_flags: BPF_F_RDONLY_PROG }, /map_flags/],
    ["the mode of a descriptor", HASH, { ...HASH, map_flags: BPF_F_RDONLY }, null],
    ["a name", HASH, { ...HASH, map_name: "other" }, null],
  ] as const) {
    const outer = { ...OUTER, map_type: BPF_MAP_TYPE_HASH_OF_MAPS, inner_map_fd: create(subject, template) };
    const attr = { map_fd: create(subject, outer), key: ZERO, value: u32(create(subject, inner)) };
    climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
      { refuses: what, attr, errno: detail === null ? null : "EINVAL", ...(detail === null ? {} : { detail }) },
    ]);
  }
});

onBoth("maps in maps are never exclusive, nor of some types", (t, subject) => {
  const exclusive = { ...INNER, excl_prog_hash: "11".repeat(32), excl_prog_hash_size: 32 };
  const outer = { ...OUTER, map_type: BPF_MAP_TYPE_ARRAY_OF_MAPS };
  const inner_map_fd = create(subject, exclusive);
  t.equal(ask(subject, "BPF_MAP_CREATE", { ...outer, inner_map_fd }), "ENOTSUPP", "an exclusive template");
  const map_fd = create(subject, { ...outer, inner_map_fd: create(subject, INNER) });
  climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
    {
      refuses: "an exclusive map",
      attr: { map_fd, key: ZERO, value: u32(inner_map_fd) },
      errno: "ENOTSUPP",
      detail: /exclusive/,
    },
  ]);
  for (const map_type of ["CGROUP_STORAGE", "PERCPU_CGROUP_STORAGE"]) {
    const storage = { map_type: `BPF_MAP_TYPE_${map_type}`, key_size: 8, value_size: 4 };
    t.equal(ask(subject, "BPF_MAP_CREATE", { ...outer, inner_map_fd: create(subject, storage) }), "ENOTSUPP", map_type);
  }
});

for (const [name, map_type] of Object.entries({ BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS })) {
  onBoth(`${name} batches take descriptors and give ids`, (t, subject) => {
    const inners = [create(subject, INNER), create(subject, INNER)] as const;
    const ids = inners.map((fd) => u32(idOf(subject, fd)));
    const map_fd = create(subject, { ...OUTER, map_type, inner_map_fd: inners[0] });
    const written = { map_fd, keys: ZERO + ONE, values: u32(inners[0]) + u32(NOT_OPEN), count: 2 };
    const stopped = subject.bpf({ cmd: "BPF_MAP_UPDATE_BATCH", attr: written });
    t.same([stopped.errno, stopped.attr], ["EBADF", { count: 1 }], "as far as it came");
    const { values: _, ...rest } = written;
    const whole = subject.bpf({ cmd: "BPF_MAP_UPDATE_BATCH", attr: { ...rest, values: inners.map(u32).join("") } });
    t.same([whole.errno, whole.attr], [null, { count: 2 }]);
    const read = subject.bpf({ cmd: "BPF_MAP_LOOKUP_BATCH", attr: { map_fd, count: 8 } });
    t.same([read.errno, split(read.attr.values, 4).sort()], ["ENOENT", [...ids].sort()]);
    t.same(
      new Map(walk(subject, map_fd)),
      new Map([
        [ZERO, ids[0]],
        [ONE, ids[1]],
      ]),
    );
  });

  onService(`${name} counts its entries, and each of them holds`, (t, service) => {
    const template = create(service, INNER);
    const map_fd = create(service, { ...OUTER, map_type, inner_map_fd: template });
    const inner = create(service, INNER);
    const id = idOf(service, inner);
    for (const key of [ZERO, ONE, ONE]) update(service, map_fd, key, u32(inner));
    service.close(inner);
    t.equal(service.entryCount(map_fd), 2);
    service.bpf({ cmd: "BPF_MAP_DELETE_ELEM", attr: { map_fd, key: ONE } });
    t.equal(service.entryCount(map_fd), 1);
    t.ok(lives(service, id), "the other entry holds it");
    update(service, map_fd, ZERO, u32(template));
    t.notOk(lives(service, id));
    t.equal(service.entryCount(map_fd), 1);
    const again = create(service, INNER);
    update(service, map_fd, ZERO, u32(again));
    const pin = { bpf_fd: map_fd, pathname: `${service.directory}/${map_type}` };
    service.bpf({ cmd: "BPF_OBJ_PIN", attr: pin });
    const againId = idOf(service, again);
    for (const fd of [again, map_fd]) service.close(fd);
    t.ok(lives(service, againId), "a pinned map keeps what is in it");
    service.changePath("unlink", pin.pathname);
    t.notOk(lives(service, againId));
  });
}

onBoth("BPF_MAP_TYPE_HASH_OF_MAPS take-out batches let inner maps go", (t, subject) => {
  const template = create(subject, INNER);
  const map_fd = create(subject, { ...OUTER, map_type: BPF_MAP_TYPE_HASH_OF_MAPS, inner_map_fd: template });
  const inners = [create(subject, INNER), create(subject, INNER)];
  const ids = inners.map((fd) => idOf(subject, fd));
  for (const [at, fd] of inners.entries()) {
    update(subject, map_fd, u32(at), u32(fd));
    subject.close(fd);
  }
  const taken = subject.bpf({ cmd: "BPF_MAP_LOOKUP_AND_DELETE_BATCH", attr: { map_fd, count: 8 } });
  t.same([taken.errno, split(taken.attr.values, 4).sort()], ["ENOENT", ids.map(u32).sort()]);
  for (const id of ids) goes(t, subject, id, "nothing holds it");
  t.same(walk(subject, map_fd), []);
});
