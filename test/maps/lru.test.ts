import { BPF_F, BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { climb, create, u32, update, walk } from "./ladder.ts";
import { onBoth, onService } from "./subjects.ts";

const { BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH } = BPF_MAP_TYPE;

for (const [name, map_type, value_size] of [
  ["BPF_MAP_TYPE_LRU_HASH", BPF_MAP_TYPE_LRU_HASH, 4],
  ["BPF_MAP_TYPE_LRU_PERCPU_HASH", BPF_MAP_TYPE_LRU_PERCPU_HASH, 8],
] as const) {
  const shape = { map_type, key_size: 4, value_size, max_entries: 4 };
  const value = "01".repeat(map_type === BPF_MAP_TYPE_LRU_HASH ? 4 : 16);

  onBoth(`${name} create refuses in the kernel's order`, (t, subject) => {
    climb(t, subject, "BPF_MAP_CREATE", [
      {
        refuses: "unknown flags, before all else",
        attr: { map_type, map_flags: BPF_F.BPF_F_STACK_BUILD_ID | BPF_F.BPF_F_NO_PREALLOC },
        errno: "EINVAL",
        detail: /not all of them/,
      },
      {
        refuses: "to be filled on demand, before sizes",
        attr: { map_type, map_flags: BPF_F.BPF_F_NO_PREALLOC },
        errno: "ENOTSUPP",
      },
      { refuses: "no entries", attr: { map_type, key_size: 0, value_size: 0 }, errno: "EINVAL", detail: /max_entries/ },
      { refuses: "no keys", attr: { map_type, max_entries: 1, value_size: 0 }, errno: "EINVAL", detail: /key_size/ },
      { refuses: "no values", attr: { map_type, max_entries: 1, key_size: 4 }, errno: "EINVAL", detail: /value_size/ },
      {
        refuses: "too large a value, before too many entries",
        attr: { map_type, key_size: 4, value_size: 2 ** 22, max_entries: 2 ** 27 + 1 },
        errno: "E2BIG",
      },
      { refuses: "nothing", attr: shape, errno: null },
    ]);
  });

  onService(`${name} puts the least recently updated element out, and the event names it`, (t, service) => {
    const fd = create(service, shape);
    for (const number of [1, 2, 3, 4]) update(service, fd, u32(number), value);
    update(service, fd, u32(1), value);
    service.bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd: fd, key: u32(2) } });
    const target = { by: "fd", fd } as const;
    const element = { target, value: Buffer.from(value, "hex"), flags: 0n };
    const { outcome } = service.run({ cmd: 2, ...element, key: Buffer.from(u32(5), "hex") });
    t.same(outcome.out?.evicted, [[0, u32(2)]], "a lookup is no use; 1 was updated again");
    t.same(
      walk(service, fd)
        .map(([key]) => key)
        .sort(),
      [1, 3, 4, 5].map(u32).sort(),
    );
  });

  onService(`${name} updates that fail put nothing out, and batches tell at which element they did`, (t, service) => {
    const fd = create(service, shape);
    for (const number of [1, 2, 3, 4]) update(service, fd, u32(number), value);
    const refused = (key: number, flags: number): string | null =>
      service.bpf({ cmd: "BPF_MAP_UPDATE_ELEM", attr: { map_fd: fd, key: u32(key), value, flags } }).errno;
    t.equal(refused(1, 1), "EEXIST");
    t.equal(refused(9, 2), "ENOENT");
    t.equal(service.entryCount(fd), 4);
    const { outcome } = service.run({
      cmd: 26,
      target: { by: "fd", fd },
      key: Buffer.from([1, 7, 8].map(u32).join(""), "hex"),
      value: Buffer.from(value.repeat(3), "hex"),
      flags: 0n,
      attr: { count: 3, elemFlags: 0n, inBatch: null, outBatch: null },
    });
    t.same(outcome.out?.evicted, [
      [1, u32(2)],
      [2, u32(3)],
    ]);
  });

  onBoth(`${name} BPF_F_NO_COMMON_LRU rounds max_entries up to a multiple of the CPUs`, (t, subject) => {
    const fd = create(subject, { ...shape, max_entries: 3, map_flags: BPF_F.BPF_F_NO_COMMON_LRU });
    const { attr } = subject.bpf({ cmd: "BPF_OBJ_GET_INFO_BY_FD", attr: { bpf_fd: fd, info_len: 104 } });
    t.equal(Buffer.from(attr.info as string, "hex").readUInt32LE(16), 4);
  });
}
