import t from "tap";
import { Service } from "../../conformance/service.ts";
import { create, succeed, u32, update, walk } from "./ladder.ts";

/**
 * Batches whose event replayed as something that had not happened: each row was found so. A refused batch leaves `count`
 * as it was, and room for keys is a buffer of zeros, which is a key, too.
 */
const HASH = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 4, max_entries: 8 };
const ARRAY = { ...HASH, map_type: "BPF_MAP_TYPE_ARRAY" };
const ROOM = "00".repeat(4 * 4);
const KEYS = u32(0) + u32(1);

for (const { name, map, frozen = false, cmd, attr, errno } of [
  {
    name: "on a frozen map",
    map: HASH,
    frozen: true,
    cmd: "BPF_MAP_UPDATE_BATCH",
    attr: { keys: KEYS, values: KEYS, count: 2 },
    errno: "EPERM",
  },
  {
    name: "on a frozen map",
    map: HASH,
    frozen: true,
    cmd: "BPF_MAP_DELETE_BATCH",
    attr: { keys: KEYS, count: 2 },
    errno: "EPERM",
  },
  {
    name: "on a frozen map, with room for keys",
    map: HASH,
    frozen: true,
    cmd: "BPF_MAP_LOOKUP_AND_DELETE_BATCH",
    attr: { keys: ROOM, count: 4 },
    errno: "EPERM",
  },
  {
    name: "with wrong elem_flags",
    map: HASH,
    cmd: "BPF_MAP_UPDATE_BATCH",
    attr: { keys: KEYS, values: KEYS, count: 2, elem_flags: 1 },
    errno: "EINVAL",
  },
  {
    name: "with wrong flags and room for keys",
    map: HASH,
    cmd: "BPF_MAP_LOOKUP_AND_DELETE_BATCH",
    attr: { keys: ROOM, count: 4, flags: 1 },
    errno: "EINVAL",
  },
  {
    name: "of no elements, with room for keys",
    map: HASH,
    cmd: "BPF_MAP_LOOKUP_AND_DELETE_BATCH",
    attr: { keys: ROOM, count: 0 },
    errno: null,
  },
  {
    name: "from a position that faults, with room for keys",
    map: HASH,
    cmd: "BPF_MAP_LOOKUP_AND_DELETE_BATCH",
    attr: { keys: ROOM, count: 4, in_batch: "" },
    errno: "EFAULT",
  },
  {
    name: "from behind the last bucket, with room for keys",
    map: HASH,
    cmd: "BPF_MAP_LOOKUP_AND_DELETE_BATCH",
    attr: { keys: ROOM, count: 4, in_batch: u32(8) },
    errno: "ENOENT",
  },
  { name: "on an array", map: ARRAY, cmd: "BPF_MAP_DELETE_BATCH", attr: { keys: KEYS, count: 2 }, errno: "ENOTSUPP" },
  {
    name: "on an array, with room for keys",
    map: ARRAY,
    cmd: "BPF_MAP_LOOKUP_AND_DELETE_BATCH",
    attr: { keys: ROOM, count: 4 },
    errno: "ENOTSUPP",
  },
])
  t.test(`${cmd} ${name} replays as nothing`, async (t) => {
    const service = new Service();
    const map_fd = create(service, map);
    for (const key of [0, 1, 2]) update(service, map_fd, u32(key), "abababab");
    if (frozen) succeed(service.bpf({ cmd: "BPF_MAP_FREEZE", attr: { map_fd } }));
    const before = walk(service, map_fd);
    t.equal(service.bpf({ cmd, attr: { map_fd, ...attr } }).errno, errno);
    t.same(walk(service, map_fd), before);
    const { state, fold } = service.cells();
    t.same(fold, state);
  });

for (const { name, cmd, attr, errno, left } of [
  {
    name: "as far as it came",
    cmd: "BPF_MAP_DELETE_BATCH",
    attr: { keys: u32(0) + u32(7) + u32(1), count: 3 },
    errno: "ENOENT",
    left: 2,
  },
  {
    name: "as far as its buffers went",
    cmd: "BPF_MAP_UPDATE_BATCH",
    attr: { keys: u32(5) + u32(6), values: u32(5), count: 2 },
    errno: "EFAULT",
    left: 4,
  },
  {
    name: "with what it lost for want of a position",
    cmd: "BPF_MAP_LOOKUP_AND_DELETE_BATCH",
    attr: { count: 8, keys: "00".repeat(32), out_batch: "" },
    errno: "EFAULT",
    left: 0,
  },
  {
    name: "with what it lost for want of a position, answering all",
    cmd: "BPF_MAP_LOOKUP_AND_DELETE_BATCH",
    attr: { count: 8, out_batch: "000000" },
    errno: "EFAULT",
    left: 0,
  },
  {
    name: "with all that it took",
    cmd: "BPF_MAP_LOOKUP_AND_DELETE_BATCH",
    attr: { count: 8, keys: "00".repeat(32) },
    errno: "ENOENT",
    left: 0,
  },
])
  t.test(`${cmd} replays ${name}`, async (t) => {
    const service = new Service();
    const map_fd = create(service, HASH);
    for (const key of [0, 1, 2]) update(service, map_fd, u32(key), "abababab");
    t.equal(service.bpf({ cmd, attr: { map_fd, ...attr } }).errno, errno);
    t.equal(walk(service, map_fd).length, left);
    t.equal(service.entryCount(map_fd), left);
    const { state, fold } = service.cells();
    t.same(fold, state);
  });
