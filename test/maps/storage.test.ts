import { BTF_BLOB } from "../../conformance/stream_btf.ts";
import type { Subject } from "../../conformance/subject.ts";
import { BPF_F, BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { CMD } from "../../src/abi/service.ts";
import type { OpenKind } from "../../src/syscall/command.ts";
import { climb, create, u32, update } from "./ladder.ts";
import { NOT_OPEN, onBoth, onService } from "./subjects.ts";

const ROWS: readonly [name: keyof typeof BPF_MAP_TYPE, kind: OpenKind, wrongKind: string | null][] = [
  ["BPF_MAP_TYPE_SK_STORAGE", "tcp_idle", "ENOTSOCK"],
  ["BPF_MAP_TYPE_INODE_STORAGE", "file", null],
  ["BPF_MAP_TYPE_TASK_STORAGE", "pidfd_self", "EBADF"],
  ["BPF_MAP_TYPE_CGRP_STORAGE", "cgroup", "EBADF"],
];
const VALUE = "0102030405060708";

function shapeOf(subject: Subject, name: keyof typeof BPF_MAP_TYPE): Readonly<Record<string, number>> {
  const btf = { btf: BTF_BLOB, btf_size: BTF_BLOB.length / 2 };
  const btf_fd = subject.bpf({ cmd: "BPF_BTF_LOAD", attr: btf }).ret;
  const types = { btf_fd, btf_key_type_id: 1, btf_value_type_id: 2 };
  return { map_type: BPF_MAP_TYPE[name], key_size: 4, value_size: 8, map_flags: BPF_F.BPF_F_NO_PREALLOC, ...types };
}

for (const [name, kind, wrongKind] of ROWS) {
  onBoth(`${name} create refuses in the kernel's order`, (t, subject) => {
    const shape = shapeOf(subject, name);
    climb(t, subject, "BPF_MAP_CREATE", [
      { refuses: "to be preallocated", attr: { ...shape, map_flags: 0, value_size: 65408 }, errno: "EINVAL" },
      { refuses: "entries", attr: { ...shape, max_entries: 1, value_size: 65408 }, errno: "EINVAL" },
      { refuses: "other keys than descriptors", attr: { ...shape, key_size: 8, value_size: 65408 }, errno: "EINVAL" },
      {
        refuses: "to go without BTF",
        attr: { ...shape, btf_key_type_id: 0, btf_value_type_id: 0, value_size: 65408 },
        errno: "EINVAL",
      },
      { refuses: "too large a value", attr: { ...shape, value_size: 65408 }, errno: "E2BIG" },
      { refuses: "a key type of other bytes", attr: { ...shape, btf_key_type_id: 2 }, errno: "EINVAL" },
      { refuses: "nothing", attr: shape, errno: null },
    ]);
  });

  onBoth(`${name} keys are descriptors, and all of one object are one key`, (t, subject) => {
    const map_fd = create(subject, shapeOf(subject, name));
    const fd = subject.open({ kind }).ret;
    const pipe = subject.open({ kind: "pipe" }).ret;
    const at = (key: number, flags: number) => ({ map_fd, key: u32(key), value: VALUE, flags });
    climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
      { refuses: "a descriptor that is not open", attr: at(NOT_OPEN, 3), errno: "EBADF" },
      ...(wrongKind === null ? [] : [{ refuses: "another kind of object", attr: at(pipe, 3), errno: wrongKind }]),
      { refuses: "unknown flags", attr: at(fd, 3), errno: "EINVAL" },
      { refuses: "BPF_EXIST where nothing is", attr: at(fd, 2), errno: "ENOENT" },
      { refuses: "nothing", attr: at(fd, 0), errno: null },
      { refuses: "BPF_NOEXIST where something is", attr: at(fd, 1), errno: "EEXIST" },
    ]);
    const copy = subject.dup(fd).ret;
    const found = subject.bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd, key: u32(copy) } });
    t.equal(found.attr.value, VALUE);
    t.equal(subject.bpf({ cmd: "BPF_MAP_GET_NEXT_KEY", attr: { map_fd } }).errno, "ENOTSUPP");
    t.equal(subject.bpf({ cmd: "BPF_MAP_DELETE_ELEM", attr: { map_fd, key: u32(copy) } }).errno, null);
    t.equal(subject.bpf({ cmd: "BPF_MAP_DELETE_ELEM", attr: { map_fd, key: u32(fd) } }).errno, "ENOENT");
  });
}

onService("local storage goes with its object: a socket that is closed, a process that exits", (t, service) => {
  const sockets = create(service, shapeOf(service, "BPF_MAP_TYPE_SK_STORAGE"));
  const tasks = create(service, shapeOf(service, "BPF_MAP_TYPE_TASK_STORAGE"));
  const socket = service.open({ kind: "udp_idle" }).ret;
  const opened = service.run({ cmd: CMD.OPEN, attr: { kind: "pidfd", pid: 4711 } });
  update(service, sockets, u32(socket), VALUE);
  update(service, tasks, u32(opened.outcome.ret), VALUE);
  service.close(socket);
  t.equal(service.entryCount(sockets), 0);
  service.run({ cmd: CMD.OBJECT_END, attr: { object: opened.outcome.out?.object as number } }, 0);
  t.equal(service.entryCount(tasks), 0);
  const gone = { map_fd: tasks, key: u32(opened.outcome.ret) };
  t.equal(service.bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: gone }).errno, "ENOENT");
});

onBoth("a spin lock in a value is never copied in, reads as zeros, and lets BPF_F_LOCK be", (t, subject) => {
  const { btf_fd } = shapeOf(subject, "BPF_MAP_TYPE_HASH");
  const shape = { map_type: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH, key_size: 4, value_size: 16, max_entries: 2 };
  const locked = create(subject, { ...shape, btf_fd: btf_fd as number, btf_key_type_id: 1, btf_value_type_id: 4 });
  const plain = create(subject, shape);
  const put = (map_fd: number, flags: number): string | null =>
    subject.bpf({ cmd: "BPF_MAP_UPDATE_ELEM", attr: { map_fd, key: u32(1), value: "ff".repeat(16), flags } }).errno;
  t.same([put(plain, 4), put(locked, 4)], ["EINVAL", null]);
  const found = subject.bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd: locked, key: u32(1), flags: 4 } });
  t.equal(found.attr.value, `${"ff".repeat(8)}00000000${"ff".repeat(4)}`);
  t.equal(subject.bpf({ cmd: "BPF_MAP_FREEZE", attr: { map_fd: locked } }).errno, "ENOTSUPP");
});
