import type { Test } from "tap";
import { BPF_F, BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import type { Subject } from "../conformance/subject.ts";
import { climb, create, u32, update } from "./ladder.ts";
import { NOT_OPEN, onBoth } from "./subjects.ts";

const { BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS, BPF_MAP_TYPE_PROG_ARRAY } =
  BPF_MAP_TYPE;
const INNER = { map_type: BPF_MAP_TYPE_ARRAY, key_size: 4, value_size: 4, max_entries: 2 };

function idOf(subject: Subject, fd: number): number {
  const { attr } = subject.bpf({ cmd: "BPF_OBJ_GET_INFO_BY_FD", attr: { bpf_fd: fd, info_len: 104 } });
  return Buffer.from(attr.info as string, "hex").readUInt32LE(4);
}

/** Whether a map with this id lives. */
function lives(subject: Subject, id: number): boolean {
  const { ret, errno } = subject.bpf({ cmd: "BPF_MAP_GET_FD_BY_ID", attr: { map_id: id } });
  if (errno === null) subject.close(ret);
  return errno === null;
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
    goes(t, subject, ids[2]);
  });
}

/** The kernel lets inner maps of a freed outer map go after a grace period. */
function goes(t: Test, subject: Subject, id: number): void {
  for (let tries = 0; tries < 200 && lives(subject, id); tries++) subject.settle();
  t.notOk(lives(subject, id), "its outer map is gone");
}
