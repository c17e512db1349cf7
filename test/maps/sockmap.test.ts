import type { Subject } from "../../conformance/subject.ts";
import { BPF_F } from "../../src/abi/bpf.ts";
import type { OpenKind } from "../../src/syscall/command.ts";
import { ask, climb, create, settles, succeed, u32, u64, update, walk } from "./ladder.ts";
import { climbNoBatches, climbShared } from "./shared_guards.ts";
import { NOT_OPEN, onBoth } from "./subjects.ts";

const SOCKMAP = { map_type: "BPF_MAP_TYPE_SOCKMAP", key_size: 4, value_size: 8, max_entries: 2 };
const SOCKHASH = { ...SOCKMAP, map_type: "BPF_MAP_TYPE_SOCKHASH" };
const { BPF_F_NO_PREALLOC, BPF_F_TOKEN_FD, BPF_F_RDONLY_PROG } = BPF_F;
const [ZERO, ONE, TWO] = [u32(0), u32(1), u32(2)];

function socket(subject: Subject, kind: OpenKind): { fd: number; value: string; cookie: string } {
  const { ret, facts } = succeed(subject.open({ kind }));
  return { fd: ret, value: u64(BigInt(ret)), cookie: u64(facts?.kind === "socket" ? facts.cookie : "0") };
}

onBoth("BPF_MAP_TYPE_SOCKMAP BPF_MAP_CREATE refuses in the kernel's order", (t, subject) => {
  const last = { ...SOCKMAP, map_name: "a-b" };
  const value = { ...last, value_size: 5 };
  const foreign = { ...value, map_flags: BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG };
  const first = { ...foreign, key_size: 8, value_size: 0, max_entries: 0 };
  climb(t, subject, "BPF_MAP_CREATE", [
    {
      refuses: "a token that is not open",
      attr: { ...first, map_flags: foreign.map_flags | BPF_F_TOKEN_FD, map_token_fd: -1 },
      errno: "EBADF",
    },
    { refuses: "no entries", attr: first, errno: "EINVAL", detail: /max_entries/ },
    { refuses: "a key that is no u32", attr: { ...foreign, key_size: 8 }, errno: "EINVAL", detail: /key_size/ },
    { refuses: "a flag of other types", attr: foreign, errno: "EINVAL", detail: /not among/ },
    { refuses: "neither 4 nor 8 bytes of value", attr: value, errno: "EINVAL", detail: /value_size/ },
    { refuses: "a bad name", attr: last, errno: "EINVAL", detail: /map_name/ },
    { refuses: "a sockmap", attr: { ...SOCKMAP, value_size: 4 }, errno: null },
  ]);
});

onBoth("BPF_MAP_TYPE_SOCKHASH BPF_MAP_CREATE refuses in the kernel's order", (t, subject) => {
  const last = { ...SOCKHASH, map_name: "a-b" };
  const entries = { ...last, max_entries: 2 ** 27 + 1 };
  const key = { ...entries, key_size: 513 };
  const foreign = { ...key, map_flags: BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG };
  const value = { ...foreign, value_size: 5 };
  const first = { ...value, key_size: 0, max_entries: 0 };
  climb(t, subject, "BPF_MAP_CREATE", [
    {
      refuses: "a token that is not open",
      attr: { ...first, map_flags: foreign.map_flags | BPF_F_TOKEN_FD, map_token_fd: -1 },
      errno: "EBADF",
    },
    { refuses: "no key", attr: first, errno: "EINVAL", detail: /key_size/ },
    { refuses: "no entries", attr: { ...value, max_entries: 0 }, errno: "EINVAL", detail: /max_entries/ },
    { refuses: "neither 4 nor 8 bytes of value", attr: value, errno: "EINVAL", detail: /value_size/ },
    { refuses: "a flag of other types", attr: foreign, errno: "EINVAL", detail: /not among/ },
    { refuses: "a key that is too large", attr: key, errno: "E2BIG", detail: /key_size/ },
    { refuses: "too many entries", attr: entries, errno: "EINVAL", detail: /max_entries/ },
    { refuses: "a bad name", attr: last, errno: "EINVAL", detail: /map_name/ },
    { refuses: "the largest key", attr: { ...SOCKHASH, key_size: 512 }, errno: null },
  ]);
});

for (const map of [SOCKMAP, SOCKHASH]) {
  const indexed = map === SOCKMAP;
  /** Outside of a SOCKMAP, absent from a full SOCKHASH. */
  const beyond = TWO;

  onBoth(`${map.map_type} elements are refused in the kernel's order`, (t, subject) => {
    climbShared(t, subject, { map, key: beyond, flags: 3 });
    climbNoBatches(t, subject, map);
    const map_fd = create(subject, map);
    const pipe = succeed(subject.open({ kind: "pipe" })).ret;
    const [idle, first, second] = (["tcp_idle", "tcp_listen", "udp_bound"] as const).map((kind) =>
      socket(subject, kind),
    );
    const [fit, other] = [first?.value as string, second?.value as string];
    update(subject, map_fd, ONE, other);
    const wrong = { map_fd, key: beyond, flags: 3 };
    climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
      {
        refuses: "what can be no descriptor",
        attr: { ...wrong, value: u64(2n ** 31n) },
        errno: "EINVAL",
        detail: /more than/,
      },
      { refuses: "a descriptor that is not open", attr: { ...wrong, value: u64(BigInt(NOT_OPEN)) }, errno: "EBADF" },
      { refuses: "a pipe", attr: { ...wrong, value: u64(BigInt(pipe)) }, errno: "ENOTSOCK" },
      { refuses: "a socket that is idle", attr: { ...wrong, value: idle?.value }, errno: "EOPNOTSUPP" },
      { refuses: "BPF_NOEXIST with BPF_EXIST", attr: { ...wrong, value: fit }, errno: "EINVAL", detail: /flags 3/ },
      {
        refuses: "BPF_EXIST beyond",
        attr: { map_fd, key: beyond, value: fit, flags: 2 },
        errno: indexed ? "E2BIG" : "ENOENT",
      },
      { refuses: "BPF_EXIST of what is absent", attr: { map_fd, key: ZERO, value: fit, flags: 2 }, errno: "ENOENT" },
      { refuses: "BPF_NOEXIST of what is present", attr: { map_fd, key: ONE, value: fit, flags: 1 }, errno: "EEXIST" },
      { refuses: "what is absent, with BPF_NOEXIST", attr: { map_fd, key: ZERO, value: fit, flags: 1 }, errno: null },
      { refuses: "what is beyond", attr: { map_fd, key: beyond, value: fit }, errno: "E2BIG" },
      { refuses: "what is present, with BPF_EXIST", attr: { map_fd, key: ONE, value: fit, flags: 2 }, errno: null },
    ]);
    climb(t, subject, "BPF_MAP_LOOKUP_ELEM", [
      { refuses: "what is beyond", attr: { map_fd, key: beyond, value: "" }, errno: "ENOENT" },
      { refuses: "no room for a cookie", attr: { map_fd, key: ONE, value: "00".repeat(7) }, errno: "EFAULT" },
      { refuses: "a cookie", attr: { map_fd, key: ONE }, errno: null },
    ]);
    const narrow = create(subject, { ...map, value_size: 4 });
    update(subject, narrow, ONE, u32(first?.fd as number));
    climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
      {
        refuses: "what can be no descriptor",
        attr: { map_fd: narrow, key: ONE, value: u32(2 ** 31) },
        errno: "EINVAL",
      },
    ]);
    climb(t, subject, "BPF_MAP_LOOKUP_ELEM", [
      {
        refuses: "values of 4 bytes, beyond or not",
        attr: { map_fd: narrow, key: beyond, value: "" },
        errno: "ENOSPC",
      },
    ]);
    climb(t, subject, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", [
      { refuses: "any key", attr: { map_fd, key: ONE }, errno: "ENOTSUPP" },
    ]);
    climb(t, subject, "BPF_MAP_DELETE_ELEM", [
      { refuses: "what is beyond", attr: { map_fd, key: beyond }, errno: indexed ? "EINVAL" : "ENOENT" },
      { refuses: "what is present", attr: { map_fd, key: ONE }, errno: null },
      { refuses: "what is gone", attr: { map_fd, key: ONE }, errno: indexed ? "EINVAL" : "ENOENT" },
    ]);
  });

  onBoth(`${map.map_type} takes sockets of some kinds, in some states`, (t, subject) => {
    const map_fd = create(subject, map);
    for (const [kind, errno] of [
      ["tcp_idle", "EOPNOTSUPP"],
      ["tcp_listen", null],
      ["tcp_connected", null],
      ["udp_idle", "EOPNOTSUPP"],
      ["udp_bound", null],
      ["unix_stream", null],
      ["unix_dgram", null],
      ["xsk", "EOPNOTSUPP"],
    ] as const) {
      const { value, cookie } = socket(subject, kind);
      t.equal(ask(subject, "BPF_MAP_UPDATE_ELEM", { map_fd, key: ONE, value }), errno, kind);
      if (errno === null)
        t.equal(ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: ONE }), cookie, `${kind}'s cookie`);
    }
  });

  onBoth(`${map.map_type} loses a socket that is closed, wherever it was`, (t, subject) => {
    const [one, two] = [create(subject, map), create(subject, map)];
    const { fd, value } = socket(subject, "udp_bound");
    const kept = socket(subject, "udp_bound");
    const copy = succeed(subject.dup(fd)).ret;
    for (const [map_fd, key] of [
      [one, ZERO],
      [one, ONE],
      [two, ONE],
    ] as const)
      update(subject, map_fd, key, value);
    update(subject, two, ZERO, kept.value);
    const found = (map_fd: number, key: string): unknown => ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key });
    subject.close(fd);
    t.not(found(one, ZERO), "ENOENT", "a duplicate is open");
    update(subject, one, ZERO, kept.value);
    subject.close(copy);
    const all = (): unknown[] => [found(one, ZERO), found(one, ONE), found(two, ZERO), found(two, ONE)];
    settles(t, subject, all, [kept.cookie, "ENOENT", kept.cookie, "ENOENT"], "the closed one is in neither");
    t.equal(
      ask(subject, "BPF_MAP_UPDATE_ELEM", { map_fd: one, key: ONE, value: kept.value, flags: 1 }),
      null,
      "its place is free",
    );
    subject.close(one);
    t.equal(found(two, ZERO), kept.cookie, "a map that goes takes its own entries alone");
  });
}

onBoth("BPF_MAP_TYPE_SOCKHASH counts what is in it: a closed socket makes room", (t, subject) => {
  const map_fd = create(subject, SOCKHASH);
  const [first, second] = [socket(subject, "udp_bound"), socket(subject, "udp_bound")];
  update(subject, map_fd, ZERO, first.value);
  update(subject, map_fd, ONE, second.value);
  t.equal(ask(subject, "BPF_MAP_UPDATE_ELEM", { map_fd, key: TWO, value: second.value }), "E2BIG");
  subject.close(first.fd);
  const put = (): unknown => ask(subject, "BPF_MAP_UPDATE_ELEM", { map_fd, key: TWO, value: second.value });
  settles(t, subject, put, null, "there is room");
  t.same(
    new Map(walk(subject, map_fd)),
    new Map([
      [ONE, second.cookie],
      [TWO, second.cookie],
    ]),
  );
});

onBoth("BPF_MAP_TYPE_SOCKMAP GET_NEXT_KEY counts up, whether slots are filled or not", (t, subject) => {
  const map_fd = create(subject, SOCKMAP);
  const next = (key: string | null): unknown => ask(subject, "BPF_MAP_GET_NEXT_KEY", { map_fd, key });
  t.same([next(null), next(ZERO), next(ONE), next(TWO)], [ZERO, ONE, "ENOENT", ZERO]);
});

onBoth("BPF_MAP_TYPE_SOCKHASH finds keys of 512 bytes", (t, subject) => {
  const map_fd = create(subject, { ...SOCKHASH, key_size: 512 });
  const { value, cookie } = socket(subject, "udp_bound");
  const keys = ["00", "01"].map((last) => "ab".repeat(511) + last);
  update(subject, map_fd, keys[0] as string, value);
  t.equal(ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: keys[0] }), cookie);
  t.equal(ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, key: keys[1] }), "ENOENT");
});
