import type { Subject } from "../../conformance/subject.ts";
import { BPF_F } from "../../src/abi/bpf.ts";
import { ask, climb, create, goes, infoOf, lives, settles, succeed, u32, update } from "./ladder.ts";
import { climbNoBatches, climbShared } from "./shared_guards.ts";
import { NOT_OPEN, onBoth, onService } from "./subjects.ts";

const XSKMAP = { map_type: "BPF_MAP_TYPE_XSKMAP", key_size: 4, value_size: 4, max_entries: 2 };
const { BPF_F_NO_PREALLOC, BPF_F_RDONLY_PROG, BPF_F_TOKEN_FD } = BPF_F;
const [ZERO, ONE, TWO] = [u32(0), u32(1), u32(2)];

function xsk(subject: Subject): number {
  return succeed(subject.open({ kind: "xsk" })).ret;
}

onBoth("BPF_MAP_TYPE_XSKMAP BPF_MAP_CREATE refuses in the kernel's order", (t, subject) => {
  const last = { ...XSKMAP, map_name: "a-b" };
  const value = { ...last, value_size: 8 };
  const foreign = { ...value, map_flags: BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG };
  const first = { ...foreign, key_size: 8, max_entries: 0 };
  climb(t, subject, "BPF_MAP_CREATE", [
    {
      refuses: "a token that is not open",
      attr: { ...first, map_flags: foreign.map_flags | BPF_F_TOKEN_FD, map_token_fd: -1 },
      errno: "EBADF",
    },
    { refuses: "no entries", attr: first, errno: "EINVAL", detail: /max_entries/ },
    { refuses: "a key that is no u32", attr: { ...foreign, key_size: 8 }, errno: "EINVAL", detail: /key_size/ },
    { refuses: "a flag of other types", attr: foreign, errno: "EINVAL", detail: /not among/ },
    { refuses: "a value that is no u32", attr: value, errno: "EINVAL", detail: /value_size/ },
    { refuses: "a bad name", attr: last, errno: "EINVAL", detail: /map_name/ },
    { refuses: "an xskmap", attr: XSKMAP, errno: null },
  ]);
});

onBoth("BPF_MAP_TYPE_XSKMAP elements are refused in the kernel's order", (t, subject) => {
  climbShared(t, subject, { map: XSKMAP, key: TWO, flags: 3 });
  climbNoBatches(t, subject, XSKMAP);
  const map_fd = create(subject, XSKMAP);
  const pipe = succeed(subject.open({ kind: "pipe" })).ret;
  const udp = succeed(subject.open({ kind: "udp_bound" })).ret;
  const [first, second] = [u32(xsk(subject)), u32(xsk(subject))];
  update(subject, map_fd, ONE, first);
  climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
    {
      refuses: "BPF_NOEXIST with BPF_EXIST",
      attr: { map_fd, key: TWO, value: u32(NOT_OPEN), flags: 3 },
      errno: "EINVAL",
      detail: /flags 3/,
    },
    { refuses: "an index outside", attr: { map_fd, key: TWO, value: u32(NOT_OPEN), flags: 1 }, errno: "E2BIG" },
    { refuses: "what is not open", attr: { map_fd, key: ONE, value: u32(NOT_OPEN), flags: 1 }, errno: "EBADF" },
    { refuses: "what can be no descriptor", attr: { map_fd, key: ONE, value: "ffffffff", flags: 1 }, errno: "EBADF" },
    { refuses: "a pipe", attr: { map_fd, key: ONE, value: u32(pipe), flags: 1 }, errno: "ENOTSOCK" },
    { refuses: "a socket of UDP", attr: { map_fd, key: ONE, value: u32(udp), flags: 1 }, errno: "EOPNOTSUPP" },
    { refuses: "BPF_NOEXIST of what is filled", attr: { map_fd, key: ONE, value: second, flags: 1 }, errno: "EEXIST" },
    { refuses: "BPF_EXIST of what is empty", attr: { map_fd, key: ZERO, value: second, flags: 2 }, errno: "ENOENT" },
    {
      refuses: "the same socket again, with any flag",
      attr: { map_fd, key: ONE, value: first, flags: 1 },
      errno: null,
    },
    { refuses: "another socket in its place", attr: { map_fd, key: ONE, value: second, flags: 2 }, errno: null },
    { refuses: "a socket for an empty slot", attr: { map_fd, key: ZERO, value: second, flags: 1 }, errno: null },
  ]);
  climb(t, subject, "BPF_MAP_LOOKUP_ELEM", [
    { refuses: "an index outside", attr: { map_fd, key: TWO, value: "" }, errno: "EOPNOTSUPP" },
    { refuses: "a filled slot", attr: { map_fd, key: ONE }, errno: "EOPNOTSUPP" },
  ]);
  climb(t, subject, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", [
    { refuses: "any slot", attr: { map_fd, key: ONE }, errno: "ENOTSUPP" },
  ]);
  climb(t, subject, "BPF_MAP_DELETE_ELEM", [
    { refuses: "an index outside", attr: { map_fd, key: TWO }, errno: "EINVAL" },
    { refuses: "a filled slot", attr: { map_fd, key: ONE }, errno: null },
    { refuses: "an empty slot", attr: { map_fd, key: ONE }, errno: null },
  ]);
  const next = (key: string | null): unknown => ask(subject, "BPF_MAP_GET_NEXT_KEY", { map_fd, key });
  t.same([next(null), next(ZERO), next(ONE), next(TWO)], [ZERO, ONE, "ENOENT", ZERO]);
});

onBoth("BPF_MAP_TYPE_XSKMAP lives without descriptors as long as a socket is in it", (t, subject) => {
  const map_fd = create(subject, XSKMAP);
  const { id } = infoOf(subject, map_fd);
  const [first, second] = [xsk(subject), xsk(subject)];
  update(subject, map_fd, ZERO, u32(first));
  update(subject, map_fd, ONE, u32(first));
  update(subject, map_fd, ONE, u32(second));
  subject.close(map_fd);
  subject.settle();
  t.ok(lives(subject, id), "two sockets are in it");
  subject.close(first);
  subject.settle();
  t.ok(lives(subject, id), "one is left");
  const again = succeed(subject.bpf({ cmd: "BPF_MAP_GET_FD_BY_ID", attr: { map_id: id } })).ret;
  const full = { map_fd: again, key: ONE, value: u32(second), flags: 2 };
  t.equal(ask(subject, "BPF_MAP_UPDATE_ELEM", full), null, "and is where it was");
  const put = (): unknown => ask(subject, "BPF_MAP_UPDATE_ELEM", { ...full, key: ZERO });
  settles(t, subject, put, "ENOENT", "the other one's slot is empty");
  subject.close(again);
  subject.close(second);
  goes(t, subject, id, "with the last socket it goes");
});

onBoth("BPF_MAP_TYPE_XSKMAP goes with its descriptor once its slots were emptied", (t, subject) => {
  const map_fd = create(subject, XSKMAP);
  const { id } = infoOf(subject, map_fd);
  const socket = xsk(subject);
  update(subject, map_fd, ONE, u32(socket));
  update(subject, map_fd, ONE, u32(socket));
  subject.bpf({ cmd: "BPF_MAP_DELETE_ELEM", attr: { map_fd, key: ONE } });
  subject.close(map_fd);
  goes(t, subject, id, "the socket is open all the same");
});

onService("BPF_MAP_TYPE_XSKMAP counts its filled slots", (t, service) => {
  const map_fd = create(service, XSKMAP);
  const socket = xsk(service);
  for (const key of [ZERO, ONE, ONE]) update(service, map_fd, key, u32(socket));
  t.equal(service.entryCount(map_fd), 2);
  service.bpf({ cmd: "BPF_MAP_DELETE_ELEM", attr: { map_fd, key: ONE } });
  t.equal(service.entryCount(map_fd), 1);
  service.close(socket);
  t.equal(service.entryCount(map_fd), 0);
});
