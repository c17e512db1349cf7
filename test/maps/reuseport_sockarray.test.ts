import type { Subject } from "../../conformance/subject.ts";
import { BPF_F } from "../../src/abi/bpf.ts";
import type { OpenKind } from "../../src/syscall/command.ts";
import { ask, climb, create, settles, succeed, u32, u64, update } from "./ladder.ts";
import { climbNoBatches, climbShared } from "./shared_guards.ts";
import { NOT_OPEN, onBoth, onService } from "./subjects.ts";

const REUSEPORT = { map_type: "BPF_MAP_TYPE_REUSEPORT_SOCKARRAY", key_size: 4, value_size: 8, max_entries: 2 };
const { BPF_F_NO_PREALLOC, BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG, BPF_F_TOKEN_FD } = BPF_F;
const [ZERO, ONE, TWO] = [u32(0), u32(1), u32(2)];

function socket(
  subject: Subject,
  kind: OpenKind = "udp_bound",
  reuseport = true,
): { fd: number; value: string; cookie: string } {
  const { ret, facts } = succeed(subject.open({ kind, reuseport }));
  return { fd: ret, value: u64(BigInt(ret)), cookie: u64(facts?.kind === "socket" ? facts.cookie : "0") };
}

onBoth("BPF_MAP_TYPE_REUSEPORT_SOCKARRAY BPF_MAP_CREATE refuses in the kernel's order", (t, subject) => {
  const last = { ...REUSEPORT, map_name: "a-b" };
  const token = { ...last, map_flags: BPF_F_TOKEN_FD, map_token_fd: -1 };
  const both = { ...token, map_flags: BPF_F_TOKEN_FD | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG };
  const foreign = { ...both, map_flags: both.map_flags | BPF_F_NO_PREALLOC };
  climb(t, subject, "BPF_MAP_CREATE", [
    {
      refuses: "neither 4 nor 8 bytes of value",
      attr: { ...foreign, key_size: 8, value_size: 5, max_entries: 0 },
      errno: "EINVAL",
      detail: /value_size/,
    },
    {
      refuses: "no entries",
      attr: { ...foreign, key_size: 8, max_entries: 0 },
      errno: "EINVAL",
      detail: /max_entries/,
    },
    { refuses: "a key that is no u32", attr: { ...foreign, key_size: 8 }, errno: "EINVAL", detail: /key_size/ },
    { refuses: "a flag of other types", attr: foreign, errno: "EINVAL", detail: /not among/ },
    { refuses: "both program modes", attr: both, errno: "EINVAL", detail: /BPF_F_RDONLY_PROG excludes/ },
    { refuses: "a token that is not open", attr: token, errno: "EBADF" },
    { refuses: "a bad name", attr: last, errno: "EINVAL", detail: /map_name/ },
    { refuses: "a value of 4 bytes", attr: { ...REUSEPORT, value_size: 4 }, errno: null },
  ]);
});

onBoth("BPF_MAP_TYPE_REUSEPORT_SOCKARRAY elements are refused in the kernel's order", (t, subject) => {
  climbShared(t, subject, { map: REUSEPORT, key: TWO, flags: 3 });
  climbNoBatches(t, subject, REUSEPORT);
  const map_fd = create(subject, REUSEPORT);
  const [taken, second] = [socket(subject), socket(subject)];
  const pipe = u64(BigInt(succeed(subject.open({ kind: "pipe" })).ret));
  const unix = socket(subject, "unix_dgram").value;
  const alone = socket(subject, "udp_bound", false).value;
  update(subject, map_fd, ONE, taken.value);
  const huge = u64(2n ** 31n);
  climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
    {
      refuses: "BPF_NOEXIST with BPF_EXIST",
      attr: { map_fd, key: TWO, value: huge, flags: 3 },
      errno: "EINVAL",
      detail: /flags 3/,
    },
    { refuses: "an index outside", attr: { map_fd, key: TWO, value: huge, flags: 1 }, errno: "E2BIG" },
    {
      refuses: "what can be no descriptor",
      attr: { map_fd, key: ONE, value: huge, flags: 1 },
      errno: "EINVAL",
      detail: /more than/,
    },
    { refuses: "what is not open", attr: { map_fd, key: ONE, value: u64(BigInt(NOT_OPEN)), flags: 1 }, errno: "EBADF" },
    { refuses: "a pipe", attr: { map_fd, key: ONE, value: pipe, flags: 1 }, errno: "ENOTSOCK" },
    { refuses: "BPF_NOEXIST of what is filled", attr: { map_fd, key: ONE, value: unix, flags: 1 }, errno: "EEXIST" },
    { refuses: "BPF_EXIST of what is empty", attr: { map_fd, key: ZERO, value: unix, flags: 2 }, errno: "ENOENT" },
    { refuses: "a socket that is not of IP", attr: { map_fd, key: ZERO, value: unix }, errno: "ENOTSUPP" },
    {
      refuses: "a socket that shares no port",
      attr: { map_fd, key: ZERO, value: alone },
      errno: "EINVAL",
      detail: /SO_REUSEPORT/,
    },
    { refuses: "a socket that is in such a map", attr: { map_fd, key: ZERO, value: taken.value }, errno: "EBUSY" },
    {
      refuses: "the same socket in its own place",
      attr: { map_fd, key: ONE, value: taken.value, flags: 2 },
      errno: "EBUSY",
    },
    { refuses: "another socket in its place", attr: { map_fd, key: ONE, value: second.value, flags: 2 }, errno: null },
    { refuses: "what was replaced", attr: { map_fd, key: ZERO, value: taken.value, flags: 1 }, errno: null },
  ]);
  climb(t, subject, "BPF_MAP_LOOKUP_ELEM", [
    { refuses: "an index outside", attr: { map_fd, key: TWO, value: "" }, errno: "ENOENT", detail: /outside/ },
    { refuses: "no room for a cookie", attr: { map_fd, key: ONE, value: "00".repeat(7) }, errno: "EFAULT" },
  ]);
  t.equal(ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: ONE }), second.cookie);
  const narrow = create(subject, { ...REUSEPORT, value_size: 4 });
  climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
    {
      refuses: "what can be no descriptor, as an int",
      attr: { map_fd: narrow, key: ONE, value: "ffffffff" },
      errno: "EBADF",
    },
    { refuses: "a socket", attr: { map_fd: narrow, key: ONE, value: u32(socket(subject).fd) }, errno: null },
  ]);
  climb(t, subject, "BPF_MAP_LOOKUP_ELEM", [
    { refuses: "values of 4 bytes, outside or not", attr: { map_fd: narrow, key: TWO, value: "" }, errno: "ENOSPC" },
  ]);
  climb(t, subject, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", [
    { refuses: "any slot", attr: { map_fd, key: ONE }, errno: "ENOTSUPP" },
  ]);
  climb(t, subject, "BPF_MAP_DELETE_ELEM", [
    { refuses: "an index outside", attr: { map_fd, key: TWO }, errno: "E2BIG" },
    { refuses: "a filled slot", attr: { map_fd, key: ONE }, errno: null },
    { refuses: "an empty slot", attr: { map_fd, key: ONE }, errno: "ENOENT" },
    { refuses: "the other one, which frees its socket", attr: { map_fd, key: ZERO }, errno: null },
  ]);
  climb(t, subject, "BPF_MAP_LOOKUP_ELEM", [
    { refuses: "an empty slot", attr: { map_fd, key: ONE, value: "" }, errno: "ENOENT", detail: /empty/ },
  ]);
  climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
    { refuses: "a socket that was in it", attr: { map_fd, key: ONE, value: second.value }, errno: null },
  ]);
  const next = (key: string | null): unknown => ask(subject, "BPF_MAP_GET_NEXT_KEY", { map_fd, key });
  t.same([next(null), next(ZERO), next(ONE), next(TWO)], [ZERO, ONE, "ENOENT", ZERO]);
});

onBoth("BPF_MAP_TYPE_REUSEPORT_SOCKARRAY takes what is bound or listening with SO_REUSEPORT", (t, subject) => {
  const map_fd = create(subject, { ...REUSEPORT, max_entries: 16 });
  for (const [at, [kind, reuseport, errno]] of (
    [
      ["tcp_listen", true, null],
      ["tcp_listen", false, "EINVAL"],
      ["tcp_idle", true, "EINVAL"],
      ["tcp_connected", false, "EINVAL"],
      ["udp_bound", true, null],
      ["udp_bound", false, "EINVAL"],
      ["udp_idle", true, "EINVAL"],
      ["unix_stream", true, "ENOTSUPP"],
      ["unix_dgram", true, "ENOTSUPP"],
      ["xsk", true, "ENOTSUPP"],
    ] as const
  ).entries()) {
    const { value } = socket(subject, kind, reuseport);
    const answer = ask(subject, "BPF_MAP_UPDATE_ELEM", { map_fd, key: u32(at), value });
    t.equal(answer, errno, `${kind}${reuseport ? " that shares its port" : ""}`);
  }
});

onBoth("BPF_MAP_TYPE_REUSEPORT_SOCKARRAY and sockmaps have no sockets in common", (t, subject) => {
  const map_fd = create(subject, REUSEPORT);
  const others = ["BPF_MAP_TYPE_SOCKMAP", "BPF_MAP_TYPE_SOCKHASH"].map((map_type) =>
    create(subject, { ...REUSEPORT, map_type }),
  );
  for (const other of others) {
    const { value } = socket(subject);
    update(subject, other, ZERO, value);
    t.equal(ask(subject, "BPF_MAP_UPDATE_ELEM", { map_fd, key: ONE, value }), "EBUSY", "what is in a sockmap");
  }
  const { value } = socket(subject);
  update(subject, map_fd, ONE, value);
  for (const other of others) {
    climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
      { refuses: "wrong flags", attr: { map_fd: other, key: TWO, value, flags: 3 }, errno: "EINVAL" },
      { refuses: "what is in a reuseport array", attr: { map_fd: other, key: ZERO, value, flags: 1 }, errno: "EBUSY" },
      { refuses: "what is in a reuseport array", attr: { map_fd: other, key: ONE, value, flags: 2 }, errno: "EBUSY" },
    ]);
  }
  subject.bpf({ cmd: "BPF_MAP_DELETE_ELEM", attr: { map_fd, key: ONE } });
  for (const map_fd of others) t.equal(ask(subject, "BPF_MAP_UPDATE_ELEM", { map_fd, key: ONE, value }), null);
});

onBoth(
  "BPF_MAP_TYPE_REUSEPORT_SOCKARRAY loses a socket that is closed, and frees its own when it goes",
  (t, subject) => {
    const map_fd = create(subject, REUSEPORT);
    const [first, second] = [socket(subject), socket(subject, "tcp_listen")];
    update(subject, map_fd, ZERO, first.value);
    update(subject, map_fd, ONE, second.value);
    subject.close(first.fd);
    const found = (): unknown => ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: ZERO });
    settles(t, subject, found, "ENOENT", "the closed one is gone");
    t.equal(ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: ONE }), second.cookie);
    const other = create(subject, REUSEPORT);
    const put = (): unknown => ask(subject, "BPF_MAP_UPDATE_ELEM", { map_fd: other, key: ZERO, value: second.value });
    t.equal(put(), "EBUSY");
    subject.close(map_fd);
    settles(t, subject, put, null, "its map is gone");
  },
);

onService("BPF_MAP_TYPE_REUSEPORT_SOCKARRAY counts its filled slots", (t, service) => {
  const map_fd = create(service, REUSEPORT);
  const [first, second] = [socket(service), socket(service)];
  for (const { value } of [first, second]) update(service, map_fd, ONE, value);
  t.equal(service.entryCount(map_fd), 1);
  service.close(second.fd);
  t.equal(service.entryCount(map_fd), 0);
});
