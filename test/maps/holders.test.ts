import { BPF_F, BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import type { OpenKind } from "../../src/syscall/command.ts";
import { ask, climb, create, u32, update } from "./ladder.ts";
import { climbNoBatches, climbShared } from "./shared_guards.ts";
import { NOT_OPEN, onBoth, onService } from "./subjects.ts";

const { BPF_MAP_TYPE_CGROUP_ARRAY, BPF_MAP_TYPE_PERF_EVENT_ARRAY, BPF_MAP_TYPE_PROG_ARRAY } = BPF_MAP_TYPE;
const XDP = 6;
const SOCKET_FILTER = 1;

const ROWS: readonly [name: string, map_type: number, kind: OpenKind, wrongKind: "EBADF" | "EINVAL"][] = [
  ["BPF_MAP_TYPE_PROG_ARRAY", BPF_MAP_TYPE_PROG_ARRAY, "prog", "EINVAL"],
  ["BPF_MAP_TYPE_PERF_EVENT_ARRAY", BPF_MAP_TYPE_PERF_EVENT_ARRAY, "perf_event", "EBADF"],
  ["BPF_MAP_TYPE_CGROUP_ARRAY", BPF_MAP_TYPE_CGROUP_ARRAY, "cgroup", "EBADF"],
];

for (const [name, map_type, kind, wrongKind] of ROWS) {
  const shape = { map_type, key_size: 4, value_size: 4, max_entries: 2 };

  onBoth(`${name} update refuses in the kernel's order`, (t, subject) => {
    const map_fd = create(subject, shape);
    const pipe = subject.open({ kind: "pipe" }).ret;
    const wanted = subject.open({ kind, progType: XDP }).ret;
    climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
      { refuses: "BPF_EXIST", attr: { map_fd, key: u32(9), value: u32(NOT_OPEN), flags: 2 }, errno: "EINVAL" },
      { refuses: "an index outside", attr: { map_fd, key: u32(2), value: u32(NOT_OPEN) }, errno: "E2BIG" },
      { refuses: "a descriptor that is not open", attr: { map_fd, key: u32(0), value: u32(NOT_OPEN) }, errno: "EBADF" },
      { refuses: "another kind of object", attr: { map_fd, key: u32(0), value: u32(pipe) }, errno: wrongKind },
      { refuses: "nothing", attr: { map_fd, key: u32(0), value: u32(wanted) }, errno: null },
    ]);
    climb(t, subject, "BPF_MAP_DELETE_ELEM", [
      { refuses: "an index outside", attr: { map_fd, key: u32(2) }, errno: "E2BIG" },
      { refuses: "an empty slot", attr: { map_fd, key: u32(1) }, errno: "ENOENT" },
      { refuses: "nothing", attr: { map_fd, key: u32(0) }, errno: null },
    ]);
  });
}

onBoth("BPF_MAP_TYPE_PROG_ARRAY gives ids, keeps programs alive, and takes one type of them for good", (t, subject) => {
  const map_fd = create(subject, { map_type: BPF_MAP_TYPE_PROG_ARRAY, key_size: 4, value_size: 4, max_entries: 2 });
  const { ret: fd, facts } = subject.open({ kind: "prog", progType: XDP });
  update(subject, map_fd, u32(0), u32(fd));
  subject.close(fd);
  const found = subject.bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd, key: u32(0) } });
  t.equal(found.attr.value, u32(facts?.kind === "prog" ? facts.progId : 0));
  subject.bpf({ cmd: "BPF_MAP_DELETE_ELEM", attr: { map_fd, key: u32(0) } });
  const other = subject.open({ kind: "prog", progType: SOCKET_FILTER }).ret;
  const wrong = { map_fd, key: u32(0), value: u32(other) };
  t.equal(subject.bpf({ cmd: "BPF_MAP_UPDATE_ELEM", attr: wrong }).errno, "EINVAL", "the first program's type stays");
});

for (const [flags, left] of [
  [0, "ENOENT"],
  [BPF_F.BPF_F_PRESERVE_ELEMS, null],
] as const)
  onBoth(`BPF_MAP_TYPE_PERF_EVENT_ARRAY entries and the open file that put them in, flags ${flags}`, (t, subject) => {
    const shape = { map_type: BPF_MAP_TYPE_PERF_EVENT_ARRAY, key_size: 4, value_size: 4, max_entries: 2 };
    const first = create(subject, { ...shape, map_flags: flags });
    const info = subject.bpf({ cmd: "BPF_OBJ_GET_INFO_BY_FD", attr: { bpf_fd: first, info_len: 104 } }).attr.info;
    const id = Buffer.from(info as string, "hex").readUInt32LE(4);
    const second = subject.bpf({ cmd: "BPF_MAP_GET_FD_BY_ID", attr: { map_id: id } }).ret;
    const event = subject.open({ kind: "perf_event" }).ret;
    update(subject, first, u32(0), u32(event));
    update(subject, second, u32(1), u32(event));
    const copy = subject.dup(second).ret;
    subject.close(second);
    subject.close(copy);
    const remove = (index: number): string | null =>
      subject.bpf({ cmd: "BPF_MAP_DELETE_ELEM", attr: { map_fd: first, key: u32(index) } }).errno;
    t.equal(remove(1), left, "its open file is closed with its last duplicate");
    t.equal(remove(0), null, "the other one is open");
  });

for (const [name, map_type, kind] of ROWS) {
  const shape = { map_type, key_size: 4, value_size: 4, max_entries: 2 };
  const [ZERO, ONE, TWO] = [u32(0), u32(1), u32(2)];
  const looksUp = name === "BPF_MAP_TYPE_PROG_ARRAY";

  onBoth(`${name} BPF_MAP_CREATE refuses in the kernel's order`, (t, subject) => {
    const last = { ...shape, map_name: "a-b" };
    const token = { ...last, map_flags: BPF_F.BPF_F_TOKEN_FD, map_token_fd: -1 };
    const value = { ...token, value_size: 8 };
    const foreign = { ...value, map_flags: BPF_F.BPF_F_TOKEN_FD | BPF_F.BPF_F_RDONLY_PROG };
    climb(t, subject, "BPF_MAP_CREATE", [
      {
        refuses: "no entries",
        attr: { ...foreign, key_size: 8, max_entries: 0 },
        errno: "EINVAL",
        detail: /max_entries/,
      },
      { refuses: "a key that is no u32", attr: { ...foreign, key_size: 8 }, errno: "EINVAL", detail: /key_size/ },
      { refuses: "a flag of other types", attr: foreign, errno: "EINVAL", detail: /not among/ },
      { refuses: "a value that is no u32", attr: value, errno: "EINVAL", detail: /value_size/ },
      { refuses: "a token that is not open", attr: token, errno: "EBADF", detail: /map_token_fd/ },
      { refuses: "a bad name", attr: last, errno: "EINVAL", detail: /map_name/ },
      {
        refuses: kind === "perf_event" ? "nothing for its entries to stay" : "what is for perf events",
        attr: { ...shape, map_flags: BPF_F.BPF_F_PRESERVE_ELEMS },
        errno: kind === "perf_event" ? null : "EINVAL",
      },
    ]);
  });

  onBoth(`${name} elements are refused in the kernel's order`, (t, subject) => {
    climbShared(t, subject, { map: shape, key: TWO, flags: 3 });
    climbNoBatches(t, subject, shape);
    const map_fd = create(subject, shape);
    for (const flags of [1, 2, 3])
      climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
        {
          refuses: `flags ${flags}`,
          attr: { map_fd, key: TWO, value: u32(NOT_OPEN), flags },
          errno: "EINVAL",
          detail: /only BPF_ANY/,
        },
      ]);
    update(subject, map_fd, ONE, u32(subject.open({ kind, progType: XDP }).ret));
    for (const key of [ZERO, TWO])
      t.equal(ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key }), looksUp ? "ENOENT" : "ENOTSUPP");
    climb(t, subject, "BPF_MAP_LOOKUP_ELEM", [
      { refuses: "no room", attr: { map_fd, key: ONE, value: "000000" }, errno: looksUp ? "EFAULT" : "ENOTSUPP" },
    ]);
    climb(t, subject, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", [
      { refuses: "any slot", attr: { map_fd, key: ONE }, errno: "ENOTSUPP" },
    ]);
    const next = (key: string | null): unknown => ask(subject, "BPF_MAP_GET_NEXT_KEY", { map_fd, key });
    t.same([next(null), next(ZERO), next(ONE), next(TWO)], [ZERO, ONE, "ENOENT", ZERO]);
    climb(t, subject, "BPF_MAP_DELETE_ELEM", [
      { refuses: "a filled slot", attr: { map_fd, key: ONE }, errno: null },
      { refuses: "the same slot again", attr: { map_fd, key: ONE }, errno: "ENOENT" },
    ]);
  });

  onService(`${name} counts its entries, each of which keeps what it holds`, (t, service) => {
    const map_fd = create(service, { ...shape, max_entries: 4 });
    const objects = (): number => Object.keys(service.cells().state).filter((cell) => cell.startsWith("6f")).length;
    const [first, second] = [1, 2].map(() => service.open({ kind, progType: XDP }).ret) as [number, number];
    for (const key of [ZERO, ONE, ONE]) update(service, map_fd, key, u32(first));
    for (const fd of [first]) service.close(fd);
    t.equal(service.entryCount(map_fd), 2);
    t.equal(objects(), 2, "held by two entries");
    update(service, map_fd, ZERO, u32(second));
    t.equal(objects(), 2, "by one");
    service.bpf({ cmd: "BPF_MAP_DELETE_ELEM", attr: { map_fd, key: ONE } });
    t.equal(service.entryCount(map_fd), 1);
    t.equal(objects(), 1, "by none");
    service.close(second);
    t.equal(objects(), 1, "the entry keeps it");
    service.close(map_fd);
    t.equal(objects(), 0, "the map is gone");
  });
}

onBoth("BPF_MAP_TYPE_PROG_ARRAY takes programs of one attach type", (t, subject) => {
  const map_fd = create(subject, { map_type: BPF_MAP_TYPE_PROG_ARRAY, key_size: 4, value_size: 4, max_entries: 2 });
  const put = (expectedAttachType: number): unknown => {
    const { ret } = subject.open({ kind: "prog", progType: XDP, expectedAttachType });
    return ask(subject, "BPF_MAP_UPDATE_ELEM", { map_fd, key: u32(0), value: u32(ret) });
  };
  const [devmap, cpumap] = [33, 35];
  t.same([put(devmap), put(cpumap), put(devmap)], [null, "EINVAL", null]);
});

onBoth("BPF_MAP_TYPE_PERF_EVENT_ARRAY entries go with the open file that filled them last", (t, subject) => {
  const first = create(subject, {
    map_type: BPF_MAP_TYPE_PERF_EVENT_ARRAY,
    key_size: 4,
    value_size: 4,
    max_entries: 2,
  });
  const pathname = `${subject.directory}/events`;
  subject.bpf({ cmd: "BPF_OBJ_PIN", attr: { bpf_fd: first, pathname } });
  const second = subject.bpf({ cmd: "BPF_OBJ_GET", attr: { pathname } }).ret;
  const event = u32(subject.open({ kind: "perf_event" }).ret);
  update(subject, first, u32(0), event);
  update(subject, first, u32(1), event);
  update(subject, second, u32(1), event);
  subject.close(first);
  const remove = (index: number): unknown => ask(subject, "BPF_MAP_DELETE_ELEM", { map_fd: second, key: u32(index) });
  t.same([remove(0), remove(1)], ["ENOENT", null]);
  update(subject, second, u32(0), event);
  subject.close(second);
  const third = subject.bpf({ cmd: "BPF_OBJ_GET", attr: { pathname } }).ret;
  t.equal(
    ask(subject, "BPF_MAP_DELETE_ELEM", { map_fd: third, key: u32(0) }),
    "ENOENT",
    "a pin keeps the map, not them",
  );
  subject.changePath("unlink", pathname);
});
