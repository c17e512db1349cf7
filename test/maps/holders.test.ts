import { BPF_F, BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import type { OpenKind } from "../../src/syscall/command.ts";
import { climb, create, u32, update } from "./ladder.ts";
import { NOT_OPEN, onBoth } from "./subjects.ts";

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
