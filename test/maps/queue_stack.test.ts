import { BPF_F, BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { ask, climb, create, succeed, u32, update } from "./ladder.ts";
import { NOT_OPEN, onBoth } from "./subjects.ts";

const { BPF_F_RDONLY, BPF_F_WRONLY, BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG, BPF_F_TOKEN_FD, BPF_F_NO_PREALLOC } = BPF_F;
const [A, B, C, D] = ["aaaaaaaa", "bbbbbbbb", "cccccccc", "dddddddd"] as const;
const BATCHES = [
  "BPF_MAP_LOOKUP_BATCH",
  "BPF_MAP_LOOKUP_AND_DELETE_BATCH",
  "BPF_MAP_UPDATE_BATCH",
  "BPF_MAP_DELETE_BATCH",
];

for (const map_type of ["BPF_MAP_TYPE_QUEUE", "BPF_MAP_TYPE_STACK"] as const) {
  const LINE = { map_type: BPF_MAP_TYPE[map_type], key_size: 0, value_size: 4, max_entries: 3 };

  onBoth(`${map_type} BPF_MAP_CREATE refuses in the kernel's order`, (t, subject) => {
    const last = { ...LINE, map_name: "a-b" };
    const token = { ...last, map_flags: BPF_F_TOKEN_FD, map_token_fd: -1 };
    const large = { ...token, value_size: 4_194_305 };
    const both = { ...large, map_flags: BPF_F_TOKEN_FD | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG };
    const foreign = { ...both, map_flags: both.map_flags | BPF_F_NO_PREALLOC };
    climb(t, subject, "BPF_MAP_CREATE", [
      {
        refuses: "no entries",
        attr: { ...foreign, key_size: 4, value_size: 0, max_entries: 0 },
        errno: "EINVAL",
        detail: /max_entries/,
      },
      { refuses: "keys", attr: { ...foreign, key_size: 4, value_size: 0 }, errno: "EINVAL", detail: /key_size/ },
      { refuses: "no value", attr: { ...foreign, value_size: 0 }, errno: "EINVAL", detail: /value_size/ },
      { refuses: "a flag of other types", attr: foreign, errno: "EINVAL", detail: /not among/ },
      { refuses: "both program modes", attr: both, errno: "EINVAL", detail: /BPF_F_RDONLY_PROG excludes/ },
      { refuses: "a value that is too large", attr: large, errno: "E2BIG", detail: /value_size/ },
      { refuses: "a token that is not open", attr: token, errno: "EBADF", detail: /map_token_fd/ },
      { refuses: "a bad name", attr: last, errno: "EINVAL", detail: /map_name/ },
      { refuses: "the largest value", attr: { ...LINE, value_size: 4_194_304, max_entries: 1 }, errno: null },
      { refuses: "a program's mode", attr: { ...LINE, map_flags: BPF_F_RDONLY_PROG }, errno: null },
    ]);
  });

  onBoth(`${map_type} elements are refused in the kernel's order`, (t, subject) => {
    const map_fd = create(subject, { ...LINE, max_entries: 1 });
    const pipe = succeed(subject.open({ kind: "pipe" })).ret;
    const readonly = create(subject, { ...LINE, map_flags: BPF_F_RDONLY });
    const writeonly = create(subject, { ...LINE, map_flags: BPF_F_WRONLY });
    const empty = create(subject, LINE);
    update(subject, map_fd, null, A);
    const key = u32(0);

    climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
      { refuses: "a descriptor that is not open", attr: { map_fd: NOT_OPEN, key, flags: 5 }, errno: "EBADF" },
      { refuses: "a pipe", attr: { map_fd: pipe, key, flags: 5 }, errno: "EINVAL", detail: /pipe/ },
      { refuses: "a descriptor for reading", attr: { map_fd: readonly, key, flags: 5 }, errno: "EPERM" },
      { refuses: "BPF_F_LOCK", attr: { map_fd, key, flags: 5 }, errno: "EINVAL", detail: /BPF_F_LOCK/ },
      { refuses: "a key", attr: { map_fd, key, flags: 1 }, errno: "EINVAL", detail: /key must be null/ },
      { refuses: "a short value", attr: { map_fd, value: "aaaaaa", flags: 1 }, errno: "EFAULT" },
      { refuses: "BPF_NOEXIST", attr: { map_fd, value: B, flags: 1 }, errno: "EINVAL", detail: /flags 1/ },
      {
        refuses: "BPF_NOEXIST with BPF_EXIST",
        attr: { map_fd, value: B, flags: 3 },
        errno: "EINVAL",
        detail: /flags 3/,
      },
      { refuses: "a value for a full map", attr: { map_fd, value: B }, errno: "E2BIG", detail: /1 of 1/ },
      { refuses: "BPF_EXIST, which makes room", attr: { map_fd, value: B, flags: 2 }, errno: null },
    ]);
    climb(t, subject, "BPF_MAP_LOOKUP_ELEM", [
      { refuses: "flags that are none of a lookup's", attr: { map_fd: NOT_OPEN, key, flags: 5 }, errno: "EINVAL" },
      { refuses: "a descriptor that is not open", attr: { map_fd: NOT_OPEN, key, flags: 4 }, errno: "EBADF" },
      { refuses: "a descriptor for writing", attr: { map_fd: writeonly, key, flags: 4 }, errno: "EPERM" },
      { refuses: "BPF_F_LOCK", attr: { map_fd: empty, key, flags: 4 }, errno: "EINVAL", detail: /BPF_F_LOCK/ },
      { refuses: "a key", attr: { map_fd: empty, key, value: "" }, errno: "EINVAL", detail: /key must be null/ },
      { refuses: "an empty map, with or without room", attr: { map_fd: empty, value: "" }, errno: "ENOENT" },
      { refuses: "no room", attr: { map_fd, value: "000000" }, errno: "EFAULT" },
      { refuses: "nothing: peeking takes nothing", attr: { map_fd }, errno: null },
    ]);
    climb(t, subject, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", [
      { refuses: "flags that are none of a lookup's", attr: { map_fd: NOT_OPEN, key, flags: 5 }, errno: "EINVAL" },
      { refuses: "a descriptor that is not open", attr: { map_fd: NOT_OPEN, key, flags: 4 }, errno: "EBADF" },
      { refuses: "a descriptor for reading", attr: { map_fd: readonly, key, flags: 4 }, errno: "EPERM" },
      { refuses: "a descriptor for writing", attr: { map_fd: writeonly, key, flags: 4 }, errno: "EPERM" },
      { refuses: "BPF_F_LOCK", attr: { map_fd: empty, key, flags: 4 }, errno: "EINVAL", detail: /popping/ },
      { refuses: "a key", attr: { map_fd: empty, key, value: "" }, errno: "EINVAL", detail: /key must be null/ },
      { refuses: "an empty map", attr: { map_fd: empty, value: "" }, errno: "ENOENT" },
      { refuses: "no room, and loses the value", attr: { map_fd, value: "000000" }, errno: "EFAULT" },
      { refuses: "what is lost", attr: { map_fd }, errno: "ENOENT" },
    ]);
    for (const cmd of ["BPF_MAP_DELETE_ELEM", "BPF_MAP_GET_NEXT_KEY"])
      climb(t, subject, cmd, [
        { refuses: "a descriptor that is not open", attr: { map_fd: NOT_OPEN, key }, errno: "EBADF" },
        {
          refuses: "a descriptor of the other mode",
          attr: { map_fd: cmd.includes("DELETE") ? readonly : writeonly, key },
          errno: "EPERM",
        },
        { refuses: "a key", attr: { map_fd: empty, key }, errno: "EINVAL", detail: /key must be null/ },
        { refuses: "whatever it is", attr: { map_fd: empty }, errno: "EINVAL", detail: /keys/ },
      ]);
    for (const cmd of BATCHES)
      climb(t, subject, cmd, [
        { refuses: "a descriptor that is not open", attr: { map_fd: NOT_OPEN, elem_flags: 1 }, errno: "EBADF" },
        {
          refuses: "a descriptor of the other mode",
          attr: { map_fd: cmd.includes("LOOKUP") ? writeonly : readonly, elem_flags: 1 },
          errno: "EPERM",
        },
        { refuses: "lines, whatever else is wrong", attr: { map_fd, elem_flags: 1, count: 0 }, errno: "ENOTSUPP" },
      ]);
    succeed(subject.bpf({ cmd: "BPF_MAP_FREEZE", attr: { map_fd } }));
    climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
      { refuses: "a frozen map", attr: { map_fd, key, flags: 5 }, errno: "EPERM" },
    ]);
    climb(t, subject, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", [
      { refuses: "a frozen map", attr: { map_fd, key, flags: 4 }, errno: "EPERM" },
    ]);
  });

  onBoth(`${map_type} pops from its end, and makes room at the other`, (t, subject) => {
    const map_fd = create(subject, LINE);
    const push = (value: string, flags = 0): unknown => ask(subject, "BPF_MAP_UPDATE_ELEM", { map_fd, value, flags });
    const peek = (): unknown => ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd });
    const pop = (): unknown => ask(subject, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", { map_fd });
    const drain = (): unknown[] => [pop(), pop(), pop(), pop()];
    const queue = map_type === "BPF_MAP_TYPE_QUEUE";

    for (const value of [A, B, C]) push(value);
    t.equal(peek(), queue ? A : C);
    t.equal(peek(), queue ? A : C, "peeking leaves it there");
    t.same(drain(), queue ? [A, B, C, "ENOENT"] : [C, B, A, "ENOENT"]);

    push(A, 2);
    push(B);
    t.same(drain(), queue ? [A, B, "ENOENT", "ENOENT"] : [B, A, "ENOENT", "ENOENT"], "BPF_EXIST with room is a push");

    for (const value of [A, B, C]) push(value);
    t.equal(push(D), "E2BIG");
    t.equal(push(D, 2), null);
    t.same(drain(), queue ? [B, C, D, "ENOENT"] : [D, C, B, "ENOENT"], "the oldest has made room");

    for (const value of [A, B]) push(value);
    pop();
    for (const value of [C, D]) push(value);
    push(A, 2);
    t.same(drain(), queue ? [C, D, A, "ENOENT"] : [A, D, C, "ENOENT"], "what was popped is not counted");
    for (const value of [A, B]) push(value);
    t.equal(peek(), queue ? A : B);
  });
}
