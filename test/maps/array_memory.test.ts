import { createHash } from "node:crypto";
import type { Subject } from "../../conformance/subject.ts";
import { BPF_F } from "../../src/abi/bpf.ts";
import { commonTypes } from "../btf/btf_blob.ts";
import { ask, climb, create, infoOf, split, succeed, u32, update } from "./ladder.ts";
import { NOT_OPEN, onBoth, onService } from "./subjects.ts";

const { BPF_F_MMAPABLE, BPF_F_RDONLY, BPF_F_WRONLY, BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG } = BPF_F;
const ARRAY = {
  map_type: "BPF_MAP_TYPE_ARRAY",
  key_size: 4,
  value_size: 5,
  max_entries: 3,
  map_flags: BPF_F_MMAPABLE,
};
const PAGE = 4096;
/** Elements lie so far apart. */
const STRIDE = 8;
const [ZERO, ONE, TWO] = [u32(0), u32(1), u32(2)];

function look(subject: Subject, map_fd: number, key: string): unknown {
  return ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key });
}

function freeze(subject: Subject, map_fd: number): void {
  succeed(subject.bpf({ cmd: "BPF_MAP_FREEZE", attr: { map_fd } }));
}

onBoth("memory of an array has its elements at their stride, and is theirs", (t, subject) => {
  const fd = create(subject, ARRAY);
  t.same(subject.readMemory(fd, 0, 32), { errno: null, data: "00".repeat(32) });
  update(subject, fd, ONE, "1111111111");
  t.equal(subject.readMemory(fd, 0, 24).data, `${"00".repeat(8)}1111111111000000${"00".repeat(8)}`);
  t.equal(subject.writeMemory(fd, 2 * STRIDE, "2222222222").errno, null);
  t.equal(look(subject, fd, TWO), "2222222222");
  t.equal(subject.writeMemory(fd, STRIDE + 3, `${"33".repeat(5)}44`).errno, null, "across an element's end");
  t.equal(look(subject, fd, ONE), "1111113333");
  t.equal(look(subject, fd, TWO), "4422222222");
  t.equal(subject.readMemory(fd, STRIDE + 2, 8).data, "1133333333334422");
  t.equal(look(subject, fd, ZERO), "0000000000");
});

onBoth("memory behind a value is plain memory, which updates leave alone", (t, subject) => {
  const fd = create(subject, ARRAY);
  subject.writeMemory(fd, 0, "aa".repeat(24));
  t.equal(look(subject, fd, ONE), "aaaaaaaaaa");
  update(subject, fd, ONE, "1111111111");
  const batch = { map_fd: fd, keys: ZERO + TWO, values: "22".repeat(10), count: 2 };
  succeed(subject.bpf({ cmd: "BPF_MAP_UPDATE_BATCH", attr: batch }));
  t.same(split(subject.readMemory(fd, 0, 24).data, STRIDE), [
    "2222222222aaaaaa",
    "1111111111aaaaaa",
    "2222222222aaaaaa",
  ]);
  const read = subject.bpf({ cmd: "BPF_MAP_LOOKUP_BATCH", attr: { map_fd: fd, count: 3 } });
  t.equal(read.attr.values, "22".repeat(5) + "11".repeat(5) + "22".repeat(5), "and lookups do not show");
});

onBoth("memory behind the last element reaches to the end of its page", (t, subject) => {
  const fd = create(subject, ARRAY);
  t.equal(subject.writeMemory(fd, 2 * STRIDE, "bb".repeat(PAGE - 2 * STRIDE)).errno, null);
  t.equal(look(subject, fd, TWO), "bbbbbbbbbb");
  t.equal(look(subject, fd, u32(3)), "ENOENT", "there is no element in it");
  t.equal(subject.readMemory(fd, PAGE - 4, 4).data, "bbbbbbbb");
  t.equal(subject.readMemory(fd, PAGE, 1).errno, "EINVAL");
  t.equal(subject.writeMemory(fd, PAGE - 1, "cccc").errno, "EINVAL", "a store over the end stores nothing");
  t.equal(subject.readMemory(fd, PAGE - 1, 1).data, "bb");
  subject.writeMemory(fd, 3 * STRIDE, "dd");
  t.equal(subject.readMemory(fd, 3 * STRIDE - 1, 3).data, "bbddbb");
});

onBoth("memory of arrays that fill their pages ends with the last element", (t, subject) => {
  const fd = create(subject, { ...ARRAY, value_size: 2048, max_entries: 4 });
  const [end, element] = [2 * PAGE, "ee".repeat(2048)];
  t.equal(subject.writeMemory(fd, end - 2048, element).errno, null);
  t.ok(look(subject, fd, u32(3)) === element);
  t.equal(subject.writeMemory(fd, PAGE - 1, "0102").errno, null, "across a page's end");
  t.equal(subject.readMemory(fd, PAGE - 2, 4).data, "00010200");
  t.equal(subject.readMemory(fd, end, 1).errno, "EINVAL");
  t.equal(subject.writeMemory(fd, end, "01").errno, "EINVAL");
  t.equal(subject.mapMemory(fd, 0, end, true), null);
  t.equal(subject.mapMemory(fd, PAGE, PAGE, false), null);
  t.equal(subject.mapMemory(fd, PAGE, end, true), "EINVAL");
});

onBoth("memory is refused in the kernel's order", (t, subject) => {
  const { fd: btf_fd, u32: key, locked12 } = commonTypes(subject);
  const of = (more: Record<string, unknown>): number => create(subject, { ...ARRAY, ...more });
  const frozen = (fd: number): number => {
    freeze(subject, fd);
    return fd;
  };
  const pipe = succeed(subject.open({ kind: "pipe" })).ret;
  const hash = { map_type: "BPF_MAP_TYPE_HASH", map_flags: 0 };
  const locked = { value_size: 12, btf_fd, btf_key_type_id: key, btf_value_type_id: locked12 };
  for (const [what, fd, reading, writing] of [
    ["a descriptor that is not open", NOT_OPEN, "EBADF", "EBADF"],
    ["a map for writing that cannot be mapped", of({ ...hash, map_flags: BPF_F_WRONLY }), "EACCES", "EACCES"],
    ["a map for reading that cannot be mapped", of({ ...hash, map_flags: BPF_F_RDONLY }), "ENOTSUPP", "EACCES"],
    ["a hash", frozen(of({ ...hash, map_flags: BPF_F_RDONLY_PROG })), "ENOTSUPP", "ENOTSUPP"],
    ["per-CPU values", of({ map_type: "BPF_MAP_TYPE_PERCPU_ARRAY", map_flags: 0 }), "ENOTSUPP", "ENOTSUPP"],
    ["values with a lock", of(locked), "ENOTSUPP", "ENOTSUPP"],
    [
      "a frozen array without memory, for programs to read",
      frozen(of({ map_flags: BPF_F_RDONLY_PROG })),
      "EINVAL",
      "EPERM",
    ],
    ["an array without memory, for programs to read", of({ map_flags: BPF_F_RDONLY_PROG }), "EINVAL", "EACCES"],
    ["an array without memory", of({ map_flags: 0 }), "EINVAL", "EINVAL"],
    ["a frozen array", frozen(of({})), null, "EPERM"],
    ["an array that programs only read", of({ map_flags: BPF_F_MMAPABLE | BPF_F_RDONLY_PROG }), null, "EACCES"],
    ["an array that programs only write", of({ map_flags: BPF_F_MMAPABLE | BPF_F_WRONLY_PROG }), null, null],
    ["a descriptor for reading", of({ map_flags: BPF_F_MMAPABLE | BPF_F_RDONLY }), "EINVAL", "EACCES"],
    ["a descriptor for writing", of({ map_flags: BPF_F_MMAPABLE | BPF_F_WRONLY }), "EACCES", "EACCES"],
    ["an array", of({}), null, null],
  ] as const) {
    t.equal(subject.readMemory(fd, 0, 1).errno, reading, `${what}: read`);
    t.equal(subject.writeMemory(fd, 0, "01").errno, writing, `${what}: written`);
  }
  t.notSame(subject.readMemory(pipe, 0, 1).errno, null, "a pipe has none");
});

onBoth("memory can be reached through a descriptor of another mode than the map was made with", (t, subject) => {
  const fd = create(subject, { ...ARRAY, map_flags: BPF_F_MMAPABLE | BPF_F_RDONLY });
  const open = { map_id: infoOf(subject, fd).id };
  const other = succeed(subject.bpf({ cmd: "BPF_MAP_GET_FD_BY_ID", attr: open })).ret;
  t.equal(subject.writeMemory(other, 0, "0102030405").errno, null);
  t.equal(look(subject, fd, ZERO), "0102030405");
});

onBoth(
  "a frozen array's digest is over its memory, padding included, and not over the rest of the page",
  (t, subject) => {
    const bpf_fd = create(subject, ARRAY);
    update(subject, bpf_fd, ONE, "1111111111");
    subject.writeMemory(bpf_fd, 5, "aaaaaa");
    subject.writeMemory(bpf_fd, 3 * STRIDE, "bb");
    freeze(subject, bpf_fd);
    const memory = subject.readMemory(bpf_fd, 0, 3 * STRIDE).data;
    t.equal(memory, `0000000000aaaaaa1111111111000000${"00".repeat(8)}`);
    const info = `${"00".repeat(88)}0100000000000000${u32(32)}`;
    const { attr } = subject.bpf({ cmd: "BPF_OBJ_GET_INFO_BY_FD", attr: { bpf_fd, info_len: 100, info } });
    t.equal(attr.hash, createHash("sha256").update(Buffer.from(memory, "hex")).digest("hex"));
  },
);

onBoth(
  "memory says of a map that it was refused for nothing else: frozen maps are read, and not updated",
  (t, subject) => {
    const map_fd = create(subject, ARRAY);
    subject.writeMemory(map_fd, 0, "0102030405");
    freeze(subject, map_fd);
    climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
      { refuses: "a frozen map", attr: { map_fd, key: ZERO, value: "0000000000" }, errno: "EPERM" },
    ]);
    t.equal(subject.readMemory(map_fd, 0, 8).data, "0102030405000000");
  },
);

onService("memory reads end where memory does, and stores beyond it are told apart", (t, service) => {
  const fd = create(service, ARRAY);
  t.equal(service.readMemory(fd, PAGE - 3, 100).data, "000000");
  t.equal(service.readMemory(fd, PAGE, 10).errno, "EINVAL");
  t.same(service.readMemory(fd, PAGE, 0), { errno: null, data: "" }, "nothing, at its end");
  t.equal(service.readMemory(fd, PAGE + 1, 0).errno, "EINVAL");
  t.equal(service.writeMemory(fd, PAGE, "").errno, null, "nothing, at its end");
  t.equal(service.readMemory(fd, 0, 0).data, "");
  service.writeMemory(fd, PAGE - 1, "ff");
  t.equal(service.readMemory(fd, -2, 2).data, "00ff", "an offset may count from the end");
});

onService("memory of an array that was never written takes no cells", (t, service) => {
  const fd = create(service, { ...ARRAY, max_entries: 2 ** 20 });
  const before = Object.keys(service.cells().state).length;
  t.equal(service.readMemory(fd, 2 ** 22, 16).data, "00".repeat(16));
  service.writeMemory(fd, 2 ** 22 + 1, "01");
  t.equal(Object.keys(service.cells().state).length, before + 1, "and what was written its own");
});
