import type { Service } from "../../conformance/service.ts";
import type { Subject } from "../../conformance/subject.ts";
import { BPF_F, type BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { CMD } from "../../src/abi/service.ts";
import type { ObjectSpec } from "../../src/syscall/command.ts";
import { commonTypes } from "../btf/btf_blob.ts";
import { ask, climb, create, infoOf, succeed, u32, update } from "./ladder.ts";
import { climbNoBatches, climbShared } from "./shared_guards.ts";
import { NOT_OPEN, onBoth, onService } from "./subjects.ts";

const { BPF_F_NO_PREALLOC, BPF_F_CLONE, BPF_F_RDONLY, BPF_F_TOKEN_FD } = BPF_F;
const [A, B] = ["aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"];

interface Row {
  readonly map_type: keyof typeof BPF_MAP_TYPE;
  readonly one: ObjectSpec;
  readonly other: ObjectSpec;
  /** What a pipe's descriptor is answered as a key; null: it is one. */
  readonly pipe: string | null;
}

const ROWS: readonly Row[] = [
  {
    map_type: "BPF_MAP_TYPE_SK_STORAGE",
    one: { kind: "tcp_idle" },
    other: { kind: "unix_stream" },
    pipe: "ENOTSOCK",
  },
  { map_type: "BPF_MAP_TYPE_INODE_STORAGE", one: { kind: "file" }, other: { kind: "udp_idle" }, pipe: null },
  {
    map_type: "BPF_MAP_TYPE_TASK_STORAGE",
    one: { kind: "pidfd_self" },
    other: { kind: "pidfd", pid: 1 },
    pipe: "EBADF",
  },
  { map_type: "BPF_MAP_TYPE_CGRP_STORAGE", one: { kind: "cgroup" }, other: { kind: "cgroup" }, pipe: "EBADF" },
];

function shape(subject: Subject, map_type: string) {
  const btf = commonTypes(subject);
  const ids = { btf_fd: btf.fd, btf_key_type_id: btf.u32, btf_value_type_id: btf.plain8 };
  return { map_type, key_size: 4, value_size: 8, max_entries: 0, map_flags: BPF_F_NO_PREALLOC, ...ids };
}

function open(subject: Subject, spec: ObjectSpec): number {
  return succeed(subject.open(spec)).ret;
}

function objectCells(service: Service): number {
  return Object.keys(service.cells().state).filter((cell) => /^(6f|69|71|74)/.test(cell)).length;
}

for (const { map_type, one, other, pipe } of ROWS) {
  onBoth(`${map_type} BPF_MAP_CREATE refuses in the kernel's order`, (t, subject) => {
    const map = shape(subject, map_type);
    const last = { ...map, map_name: "a-b" };
    const token = { ...last, map_flags: BPF_F_NO_PREALLOC | BPF_F_TOKEN_FD, map_token_fd: -1 };
    const large = { ...token, value_size: 65_408 };
    const typeless = { ...large, btf_key_type_id: 0 };
    const worst = { ...typeless, key_size: 8, value_size: 0, max_entries: 1 };
    climb(t, subject, "BPF_MAP_CREATE", [
      {
        refuses: "a descriptor for reading",
        attr: { ...worst, map_flags: BPF_F_TOKEN_FD | BPF_F_RDONLY },
        errno: "EINVAL",
        detail: /not among/,
      },
      {
        refuses: "storage that is allocated at once",
        attr: { ...worst, map_flags: BPF_F_TOKEN_FD },
        errno: "EINVAL",
        detail: /BPF_F_NO_PREALLOC/,
      },
      { refuses: "entries", attr: worst, errno: "EINVAL", detail: /max_entries/ },
      { refuses: "a key that is no fd", attr: { ...worst, max_entries: 0 }, errno: "EINVAL", detail: /key_size/ },
      { refuses: "no value", attr: { ...typeless, value_size: 0 }, errno: "EINVAL", detail: /value_size/ },
      { refuses: "no key type", attr: typeless, errno: "EINVAL", detail: /required for local storage/ },
      {
        refuses: "no types at all",
        attr: { ...typeless, btf_value_type_id: 0 },
        errno: "EINVAL",
        detail: /required for local storage/,
      },
      { refuses: "a value that is too large", attr: large, errno: "E2BIG", detail: /value_size/ },
      { refuses: "a token that is not open", attr: token, errno: "EBADF", detail: /map_token_fd/ },
      { refuses: "a bad name", attr: { ...last, btf_fd: NOT_OPEN }, errno: "EINVAL", detail: /map_name/ },
      { refuses: "BTF that is not open", attr: { ...map, btf_fd: NOT_OPEN }, errno: "EBADF", detail: /btf_fd/ },
      {
        refuses: "a key type that is no integer",
        attr: { ...map, key_size: 4, btf_key_type_id: map.btf_value_type_id },
        errno: "EINVAL",
      },
      {
        refuses: "storage of sockets that are cloned",
        attr: { ...map, map_flags: BPF_F_NO_PREALLOC | BPF_F_CLONE },
        errno: null,
      },
    ]);
    const { largest } = commonTypes(subject);
    t.equal(ask(subject, "BPF_MAP_CREATE", { ...map, value_size: 65_407, btf_value_type_id: largest }), null);
  });

  onBoth(`${map_type} elements are refused in the kernel's order`, (t, subject) => {
    const map = shape(subject, map_type);
    climbShared(t, subject, { map, key: u32(NOT_OPEN), flags: 3, modes: false });
    climbNoBatches(t, subject, map);
    const map_fd = create(subject, map);
    const [present, absent] = [u32(open(subject, one)), u32(open(subject, other))];
    update(subject, map_fd, present, A);
    const not = u32(NOT_OPEN);
    const pipeFd = u32(open(subject, { kind: "pipe" }));
    climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
      { refuses: "a descriptor that is not open", attr: { map_fd, key: not, value: A, flags: 3 }, errno: "EBADF" },
      { refuses: "what can be no descriptor", attr: { map_fd, key: "ffffffff", value: A, flags: 3 }, errno: "EBADF" },
      { refuses: "a pipe", attr: { map_fd, key: pipeFd, value: A, flags: 3 }, errno: pipe ?? "EINVAL" },
      { refuses: "BPF_NOEXIST with BPF_EXIST", attr: { map_fd, key: present, value: B, flags: 3 }, errno: "EINVAL" },
      { refuses: "BPF_NOEXIST of what is there", attr: { map_fd, key: present, value: B, flags: 1 }, errno: "EEXIST" },
      { refuses: "BPF_EXIST of what is not", attr: { map_fd, key: absent, value: B, flags: 2 }, errno: "ENOENT" },
      { refuses: "BPF_EXIST of what is there", attr: { map_fd, key: present, value: B, flags: 2 }, errno: null },
    ]);
    climb(t, subject, "BPF_MAP_LOOKUP_ELEM", [
      { refuses: "a descriptor that is not open", attr: { map_fd, key: not, value: "" }, errno: "EBADF" },
      { refuses: "a pipe", attr: { map_fd, key: pipeFd, value: "" }, errno: pipe ?? "ENOENT" },
      { refuses: "what is not there", attr: { map_fd, key: absent, value: "" }, errno: "ENOENT" },
      { refuses: "no room", attr: { map_fd, key: present, value: "00".repeat(7) }, errno: "EFAULT" },
    ]);
    t.equal(ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: present }), B);
    for (const [cmd, attr] of [
      ["BPF_MAP_GET_NEXT_KEY", { map_fd }],
      ["BPF_MAP_GET_NEXT_KEY", { map_fd, key: not }],
      ["BPF_MAP_LOOKUP_AND_DELETE_ELEM", { map_fd, key: not }],
    ] as const)
      climb(t, subject, cmd, [{ refuses: "storage, whatever the key", attr, errno: "ENOTSUPP" }]);
    climb(t, subject, "BPF_MAP_DELETE_ELEM", [
      { refuses: "a descriptor that is not open", attr: { map_fd, key: not }, errno: "EBADF" },
      { refuses: "a pipe", attr: { map_fd, key: pipeFd }, errno: pipe ?? "ENOENT" },
      { refuses: "what is not there", attr: { map_fd, key: absent }, errno: "ENOENT" },
      { refuses: "what is there", attr: { map_fd, key: present }, errno: null },
      { refuses: "what is gone", attr: { map_fd, key: present }, errno: "ENOENT" },
    ]);
    climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
      { refuses: "BPF_NOEXIST of what is gone", attr: { map_fd, key: present, value: A, flags: 1 }, errno: null },
    ]);
  });

  onBoth(`${map_type} knows an object by every descriptor, and others by none`, (t, subject) => {
    const [first, second] = [1, 2].map(() => create(subject, shape(subject, map_type))) as [number, number];
    const fd = open(subject, one);
    const copy = succeed(subject.dup(fd)).ret;
    const look = (map_fd: number, key: number): unknown =>
      ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: u32(key) });
    update(subject, first, u32(fd), A);
    update(subject, second, u32(copy), B);
    t.same([look(first, copy), look(second, fd)], [A, B], "each map has its own");
    t.equal(look(first, open(subject, other)), "ENOENT");
    subject.close(fd);
    t.same([look(first, copy), look(second, copy)], [A, B], "a duplicate is open");
    t.equal(ask(subject, "BPF_MAP_DELETE_ELEM", { map_fd: first, key: u32(copy) }), null);
    t.same([look(first, copy), look(second, copy)], ["ENOENT", B]);
  });

  onService(`${map_type} lets its objects go when it goes`, (t, service) => {
    const map = shape(service, map_type);
    service.close(map.btf_fd);
    const [first, second] = [create(service, shape(service, map_type)), create(service, shape(service, map_type))];
    const fd = open(service, one);
    for (const map_fd of [first, second]) update(service, map_fd, u32(fd), A);
    t.equal(service.entryCount(first), 1);
    service.close(first);
    t.equal(ask(service, "BPF_MAP_LOOKUP_ELEM", { map_fd: second, key: u32(fd) }), A, "the other map keeps its own");
    service.close(fd);
    service.close(second);
    const before = objectCells(service);
    service.close(open(service, one));
    t.equal(objectCells(service), before, "an object in no map leaves nothing");
  });
}

onBoth("BPF_MAP_TYPE_SK_STORAGE and _INODE_STORAGE lose what is closed for good", (t, subject) => {
  for (const { map_type, kind } of [
    { map_type: "BPF_MAP_TYPE_SK_STORAGE", kind: "udp_idle" },
    { map_type: "BPF_MAP_TYPE_INODE_STORAGE", kind: "pipe" },
    { map_type: "BPF_MAP_TYPE_INODE_STORAGE", kind: "pidfd_self" },
  ] as const) {
    const map_fd = create(subject, shape(subject, map_type));
    const fd = open(subject, { kind });
    update(subject, map_fd, u32(fd), A);
    subject.close(fd);
    subject.settle();
    const again = u32(open(subject, { kind }));
    t.equal(ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: again }), "ENOENT", `${map_type} of a ${kind}`);
  }
});

onService("local storage counts what is closed for good no more", (t, service) => {
  for (const [map_type, kind, left] of [
    ["BPF_MAP_TYPE_SK_STORAGE", "udp_idle", 0],
    ["BPF_MAP_TYPE_INODE_STORAGE", "pipe", 0],
    ["BPF_MAP_TYPE_INODE_STORAGE", "file", 0],
    ["BPF_MAP_TYPE_INODE_STORAGE", "pidfd_self", 0],
    ["BPF_MAP_TYPE_TASK_STORAGE", "pidfd_self", 1],
    ["BPF_MAP_TYPE_CGRP_STORAGE", "cgroup", 1],
  ] as const) {
    const map_fd = create(service, shape(service, map_type));
    const fd = open(service, { kind });
    update(service, map_fd, u32(fd), A);
    service.close(fd);
    t.equal(service.entryCount(map_fd), left, `${map_type} of a ${kind}`);
  }
});

onBoth(
  "BPF_MAP_TYPE_TASK_STORAGE and _CGRP_STORAGE outlive descriptors, and _INODE_STORAGE of a path does",
  (t, subject) => {
    const cgroup = succeed(subject.open({ kind: "cgroup" }));
    const path = cgroup.facts?.kind === "cgroup" ? cgroup.facts.path : null;
    for (const [map_type, spec] of [
      ["BPF_MAP_TYPE_TASK_STORAGE", { kind: "pidfd_self" }],
      ["BPF_MAP_TYPE_CGRP_STORAGE", { kind: "cgroup", path: path ?? "/sys/fs/cgroup/named" }],
      ["BPF_MAP_TYPE_INODE_STORAGE", { kind: "dir", path: subject.directory }],
    ] as const) {
      const map_fd = create(subject, shape(subject, map_type));
      const fd = open(subject, spec);
      update(subject, map_fd, u32(fd), A);
      subject.close(fd);
      subject.settle();
      const again = open(subject, spec);
      t.equal(ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: u32(again) }), A, map_type);
      subject.close(again);
    }
  },
);

onBoth("BPF_MAP_TYPE_INODE_STORAGE takes anonymous files for one: maps, programs, BTF, perf events", (t, subject) => {
  const map = shape(subject, "BPF_MAP_TYPE_INODE_STORAGE");
  const map_fd = create(subject, map);
  update(subject, map_fd, u32(map_fd), A);
  const prog = open(subject, { kind: "prog", progType: 6 });
  const event = open(subject, { kind: "perf_event" });
  for (const fd of [map.btf_fd, prog, event]) t.equal(ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: u32(fd) }), A);
  const pidfd = open(subject, { kind: "pidfd_self" });
  t.equal(
    ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: u32(pidfd) }),
    "ENOENT",
    "a pidfd has an inode of its own",
  );
  for (const fd of [prog, event, map.btf_fd]) subject.close(fd);
  t.equal(ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: u32(map_fd) }), A, "closing one of them takes nothing");
});

onBoth("BPF_MAP_TYPE_TASK_STORAGE has no element for a process that has exited", (t, subject) => {
  const map_fd = create(subject, shape(subject, "BPF_MAP_TYPE_TASK_STORAGE"));
  const key = u32(open(subject, { kind: "pidfd_dead" }));
  for (const [cmd, attr] of [
    ["BPF_MAP_UPDATE_ELEM", { map_fd, key, value: A, flags: 3 }],
    ["BPF_MAP_LOOKUP_ELEM", { map_fd, key, value: "" }],
    ["BPF_MAP_DELETE_ELEM", { map_fd, key }],
  ] as const)
    climb(t, subject, cmd, [{ refuses: "one that is dead", attr, errno: "ENOENT", detail: /has exited/ }]);
});

onService("local storage of a process that exits, of a cgroup that is removed, goes", (t, service) => {
  for (const [map_type, spec, detail] of [
    ["BPF_MAP_TYPE_TASK_STORAGE", { kind: "pidfd", pid: 77 }, /has exited/],
    ["BPF_MAP_TYPE_CGRP_STORAGE", { kind: "cgroup", path: "/sys/fs/cgroup/one" }, /was removed/],
  ] as const) {
    const map_fd = create(service, shape(service, map_type));
    const inodes = create(service, shape(service, "BPF_MAP_TYPE_INODE_STORAGE"));
    const { ret: fd, facts } = succeed(service.open(spec));
    for (const map of [map_fd, inodes]) update(service, map, u32(fd), A);
    const { id } = facts as unknown as { id: number };
    service.run({ cmd: CMD.OBJECT_END, attr: { object: id } }, 0);
    t.equal(service.entryCount(map_fd), 0);
    climb(t, service, "BPF_MAP_LOOKUP_ELEM", [
      { refuses: "it", attr: { map_fd, key: u32(fd) }, errno: "ENOENT", detail },
    ]);
    climb(t, service, "BPF_MAP_UPDATE_ELEM", [
      { refuses: "it", attr: { map_fd, key: u32(fd), value: A, flags: 3 }, errno: "ENOENT", detail },
    ]);
    t.ok(infoOf(service, map_fd).id > 0, "the map stays");
  }
});
