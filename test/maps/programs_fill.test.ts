import { BPF_F, BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { climb, create, u32 } from "./ladder.ts";
import { onBoth, onService } from "./subjects.ts";

/** Types that only programs fill, or only memory. */
const T = BPF_MAP_TYPE;
const KEY_8 = "00".repeat(8);

for (const map_type of [T.BPF_MAP_TYPE_CGROUP_STORAGE, T.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE])
  onBoth(`map type ${map_type}, cgroup storage, is empty and stays so`, (t, subject) => {
    const shape = { map_type, key_size: 8, value_size: 8 };
    climb(t, subject, "BPF_MAP_CREATE", [
      { refuses: "keys that are none of its", attr: { ...shape, key_size: 4, value_size: 0 }, errno: "EINVAL" },
      { refuses: "no value", attr: { ...shape, value_size: 0, max_entries: 1 }, errno: "EINVAL" },
      { refuses: "too large a value", attr: { ...shape, value_size: 65408, max_entries: 1 }, errno: "E2BIG" },
      { refuses: "unknown flags", attr: { ...shape, map_flags: 1, max_entries: 1 }, errno: "EINVAL" },
      { refuses: "entries", attr: { ...shape, max_entries: 1 }, errno: "EINVAL" },
    ]);
    const map_fd = create(subject, shape);
    const value = "00".repeat(16);
    const put = (flags: number): string | null =>
      subject.bpf({ cmd: "BPF_MAP_UPDATE_ELEM", attr: { map_fd, key: KEY_8, value, flags } }).errno;
    t.same([put(0), put(1), put(2)], ["ENOENT", "EINVAL", "ENOENT"]);
    t.equal(subject.bpf({ cmd: "BPF_MAP_GET_NEXT_KEY", attr: { map_fd, key: KEY_8 } }).errno, "ENOENT");
    t.equal(subject.bpf({ cmd: "BPF_MAP_DELETE_ELEM", attr: { map_fd, key: KEY_8 } }).errno, "EINVAL");
  });

onBoth("BPF_MAP_TYPE_STACK_TRACE is empty, its ids end at max_entries rounded up", (t, subject) => {
  const shape = { map_type: T.BPF_MAP_TYPE_STACK_TRACE, key_size: 4, value_size: 16, max_entries: 3 };
  climb(t, subject, "BPF_MAP_CREATE", [
    { refuses: "half a frame", attr: { ...shape, value_size: 12 }, errno: "EINVAL" },
    { refuses: "too many frames", attr: { ...shape, value_size: 1024 }, errno: "EINVAL" },
    { refuses: "half a build id", attr: { ...shape, map_flags: BPF_F.BPF_F_STACK_BUILD_ID }, errno: "EINVAL" },
  ]);
  const map_fd = create(subject, shape);
  const remove = (id: number): string | null =>
    subject.bpf({ cmd: "BPF_MAP_DELETE_ELEM", attr: { map_fd, key: u32(id) } }).errno;
  t.same([remove(3), remove(4)], ["ENOENT", "E2BIG"]);
  const put = { map_fd, key: u32(0), value: "00".repeat(16) };
  t.equal(subject.bpf({ cmd: "BPF_MAP_UPDATE_ELEM", attr: put }).errno, "EINVAL");
  t.equal(subject.bpf({ cmd: "BPF_MAP_LOOKUP_AND_DELETE_ELEM", attr: { map_fd, key: u32(0) } }).errno, "ENOENT");
});

for (const map_type of [T.BPF_MAP_TYPE_RINGBUF, T.BPF_MAP_TYPE_USER_RINGBUF])
  onBoth(`map type ${map_type}, a ring buffer, has whole pages, a power of two, and no elements`, (t, subject) => {
    climb(t, subject, "BPF_MAP_CREATE", [
      { refuses: "flags", attr: { map_type, max_entries: 4096, map_flags: 1 }, errno: "EINVAL" },
      { refuses: "keys", attr: { map_type, max_entries: 4096, key_size: 4 }, errno: "EINVAL" },
      { refuses: "half a page", attr: { map_type, max_entries: 2048 }, errno: "EINVAL" },
      { refuses: "three pages", attr: { map_type, max_entries: 12288 }, errno: "EINVAL" },
    ]);
    const map_fd = create(subject, { map_type, max_entries: 4096 });
    t.equal(subject.bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd } }).errno, "ENOTSUPP");
    t.equal(
      subject.bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd, key: u32(0) } }).errno,
      "EINVAL",
      "the key first",
    );
    t.equal(subject.bpf({ cmd: "BPF_MAP_UPDATE_ELEM", attr: { map_fd } }).errno, "ENOTSUPP");
  });

onBoth("BPF_MAP_TYPE_ARENA create refuses in the kernel's order", (t, subject) => {
  const arena = { map_type: T.BPF_MAP_TYPE_ARENA, max_entries: 2, map_flags: BPF_F.BPF_F_MMAPABLE };
  climb(t, subject, "BPF_MAP_CREATE", [
    { refuses: "values", attr: { ...arena, value_size: 4, map_extra: 1 }, errno: "EINVAL" },
    { refuses: "to have no memory", attr: { ...arena, map_flags: 0, map_extra: 1 }, errno: "EINVAL" },
    { refuses: "half a page's address", attr: { ...arena, map_extra: 1, max_entries: 2 ** 20 + 1 }, errno: "EINVAL" },
    { refuses: "more than 4 GiB", attr: { ...arena, max_entries: 2 ** 20 + 1 }, errno: "E2BIG" },
    { refuses: "to cross 4 GiB", attr: { ...arena, map_extra: 2 ** 32 - 4096 }, errno: "ERANGE" },
    { refuses: "nothing", attr: arena, errno: null },
  ]);
});

onService("what exists inside a kernel only says so", (t, service) => {
  const struct_ops = { map_type: T.BPF_MAP_TYPE_STRUCT_OPS, key_size: 4, value_size: 256, max_entries: 1 };
  const refused = service.bpf({ cmd: "BPF_MAP_CREATE", attr: { ...struct_ops, btf_vmlinux_value_type_id: 5 } });
  t.match(refused, { errno: "ENOTSUPP", detail: /inside a kernel only/ });
  const ring = create(service, { map_type: T.BPF_MAP_TYPE_RINGBUF, max_entries: 4096 });
  t.equal(service.readMemory(ring, 0, 8).errno, "ENOTSUPP");
  t.match(service.bpf({ cmd: "BPF_PROG_LOAD", attr: {} }), { errno: "EINVAL", detail: /inside a kernel only/ });
});

onBoth("BPF_MAP_TYPE_BLOOM_FILTER has what was added, and nothing else can be done with it", (t, subject) => {
  const shape = { map_type: T.BPF_MAP_TYPE_BLOOM_FILTER, value_size: 4, max_entries: 64 };
  climb(t, subject, "BPF_MAP_CREATE", [
    {
      refuses: "too large a value, before all else",
      attr: { ...shape, value_size: 2 ** 22 + 1, key_size: 4 },
      errno: "E2BIG",
    },
    { refuses: "keys", attr: { ...shape, key_size: 4, map_extra: 16 }, errno: "EINVAL" },
    { refuses: "sixteen hash functions", attr: { ...shape, map_extra: 16 }, errno: "EINVAL" },
  ]);
  const map_fd = create(subject, shape);
  const put = (flags: number): string | null =>
    subject.bpf({ cmd: "BPF_MAP_UPDATE_ELEM", attr: { map_fd, value: u32(7), flags } }).errno;
  t.same([put(1), put(2), put(0)], ["EINVAL", "EINVAL", null]);
  const asked = (value: string | null) => subject.bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd, value } }).errno;
  t.same([asked(u32(7)), asked(null)], [null, "EFAULT"]);
  t.equal(subject.bpf({ cmd: "BPF_MAP_DELETE_ELEM", attr: { map_fd } }).errno, "EOPNOTSUPP");
  t.equal(subject.bpf({ cmd: "BPF_MAP_GET_NEXT_KEY", attr: { map_fd } }).errno, "EOPNOTSUPP");
});
