import { BPF_F } from "../../src/abi/bpf.ts";
import { ask, climb, create, succeed, u32, update } from "./ladder.ts";
import { climbNoBatches } from "./shared_guards.ts";
import { NOT_OPEN, onBoth, onService } from "./subjects.ts";

const BLOOM = { map_type: "BPF_MAP_TYPE_BLOOM_FILTER", key_size: 0, value_size: 4, max_entries: 64 };
const {
  BPF_F_RDONLY,
  BPF_F_WRONLY,
  BPF_F_RDONLY_PROG,
  BPF_F_WRONLY_PROG,
  BPF_F_TOKEN_FD,
  BPF_F_NO_PREALLOC,
  BPF_F_ZERO_SEED,
} = BPF_F;
const [A, B] = ["aaaaaaaa", "bbbbbbbb"];

onBoth("BPF_MAP_TYPE_BLOOM_FILTER BPF_MAP_CREATE refuses in the kernel's order", (t, subject) => {
  const last = { ...BLOOM, map_name: "a-b" };
  const worst = {
    ...last,
    key_size: 4,
    value_size: 4_194_305,
    max_entries: 0,
    map_extra: 16,
    map_flags: BPF_F_TOKEN_FD | BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG,
    map_token_fd: -1,
  };
  const flags = BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;
  const second = { ...worst, value_size: 0, map_flags: flags };
  climb(t, subject, "BPF_MAP_CREATE", [
    { refuses: "a value that is too large", attr: worst, errno: "E2BIG", detail: /value_size/ },
    { refuses: "a token that is not open", attr: { ...worst, value_size: 0 }, errno: "EBADF" },
    { refuses: "keys", attr: second, errno: "EINVAL", detail: /key_size/ },
    { refuses: "no entries", attr: { ...second, key_size: 0 }, errno: "EINVAL", detail: /max_entries/ },
    {
      refuses: "a flag of other types",
      attr: { ...second, key_size: 0, max_entries: 1 },
      errno: "EINVAL",
      detail: /not among/,
    },
    {
      refuses: "both program modes",
      attr: { ...second, key_size: 0, max_entries: 1, map_flags: flags & ~BPF_F_NO_PREALLOC },
      errno: "EINVAL",
      detail: /BPF_F_RDONLY_PROG excludes/,
    },
    { refuses: "no value", attr: { ...last, value_size: 0, map_extra: 16 }, errno: "EINVAL", detail: /value_size/ },
    { refuses: "too many hash functions", attr: { ...last, map_extra: 16 }, errno: "EINVAL", detail: /hash functions/ },
    { refuses: "a bad name", attr: last, errno: "EINVAL", detail: /map_name/ },
    {
      refuses: "the most hash functions, and a zero seed",
      attr: { ...BLOOM, map_extra: 15, map_flags: BPF_F_ZERO_SEED },
      errno: null,
    },
    { refuses: "the largest value", attr: { ...BLOOM, value_size: 4_194_304, max_entries: 1 }, errno: null },
  ]);
});

onBoth("BPF_MAP_TYPE_BLOOM_FILTER elements are refused in the kernel's order", (t, subject) => {
  climbNoBatches(t, subject, BLOOM);
  const map_fd = create(subject, BLOOM);
  const pipe = succeed(subject.open({ kind: "pipe" })).ret;
  const readonly = create(subject, { ...BLOOM, map_flags: BPF_F_RDONLY });
  const writeonly = create(subject, { ...BLOOM, map_flags: BPF_F_WRONLY });
  const key = u32(0);
  climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
    { refuses: "a descriptor that is not open", attr: { map_fd: NOT_OPEN, key, flags: 7 }, errno: "EBADF" },
    { refuses: "a pipe", attr: { map_fd: pipe, key, flags: 7 }, errno: "EINVAL", detail: /pipe/ },
    { refuses: "a descriptor for reading", attr: { map_fd: readonly, key, flags: 7 }, errno: "EPERM" },
    { refuses: "BPF_F_LOCK", attr: { map_fd, key, flags: 7 }, errno: "EINVAL", detail: /BPF_F_LOCK/ },
    { refuses: "a key", attr: { map_fd, key, flags: 3 }, errno: "EINVAL", detail: /key must be null/ },
    { refuses: "a short value", attr: { map_fd, value: "aaaaaa", flags: 3 }, errno: "EFAULT" },
    { refuses: "BPF_NOEXIST", attr: { map_fd, value: A, flags: 1 }, errno: "EINVAL", detail: /flags 1/ },
    { refuses: "BPF_EXIST", attr: { map_fd, value: A, flags: 2 }, errno: "EINVAL", detail: /flags 2/ },
    { refuses: "a value", attr: { map_fd, value: A }, errno: null },
    { refuses: "the same value again", attr: { map_fd, value: A }, errno: null },
  ]);
  climb(t, subject, "BPF_MAP_LOOKUP_ELEM", [
    { refuses: "flags that are none of a lookup's", attr: { map_fd: NOT_OPEN, key, flags: 5 }, errno: "EINVAL" },
    { refuses: "a descriptor that is not open", attr: { map_fd: NOT_OPEN, key, flags: 4 }, errno: "EBADF" },
    { refuses: "a descriptor for writing", attr: { map_fd: writeonly, key, flags: 4 }, errno: "EPERM" },
    { refuses: "BPF_F_LOCK", attr: { map_fd, key, flags: 4 }, errno: "EINVAL", detail: /BPF_F_LOCK/ },
    { refuses: "a key", attr: { map_fd, key, value: "" }, errno: "EINVAL", detail: /key must be null/ },
    { refuses: "no value to ask for", attr: { map_fd }, errno: "EFAULT", detail: /value/ },
    { refuses: "a short value", attr: { map_fd, value: "aaaaaa" }, errno: "EFAULT", detail: /value/ },
    { refuses: "what was added", attr: { map_fd, value: A }, errno: null },
  ]);
  for (const cmd of ["BPF_MAP_DELETE_ELEM", "BPF_MAP_GET_NEXT_KEY"])
    climb(t, subject, cmd, [
      {
        refuses: "a descriptor of the other mode",
        attr: { map_fd: cmd.includes("DELETE") ? readonly : writeonly, key },
        errno: "EPERM",
      },
      { refuses: "a key", attr: { map_fd, key }, errno: "EINVAL", detail: /key must be null/ },
      { refuses: "whatever it is", attr: { map_fd }, errno: "EOPNOTSUPP" },
    ]);
  climb(t, subject, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", [
    { refuses: "a descriptor for reading", attr: { map_fd: readonly, key }, errno: "EPERM" },
    { refuses: "a key", attr: { map_fd, key }, errno: "EINVAL", detail: /key must be null/ },
    { refuses: "whatever it is", attr: { map_fd, value: A }, errno: "ENOTSUPP" },
  ]);
  succeed(subject.bpf({ cmd: "BPF_MAP_FREEZE", attr: { map_fd } }));
  climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
    { refuses: "a frozen map", attr: { map_fd, key, flags: 7 }, errno: "EPERM" },
  ]);
  t.equal(ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, value: A }), null, "what was added is found, frozen or not");
});

onBoth("BPF_MAP_TYPE_BLOOM_FILTER finds all that was added, more than max_entries of it, too", (t, subject) => {
  const map_fd = create(subject, { ...BLOOM, max_entries: 1, map_extra: 3 });
  const values = Array.from({ length: 20 }, (_, at) => u32(at * 977));
  for (const value of values) update(subject, map_fd, null, value);
  const missing = values.filter((value) => ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd, value }) !== null);
  t.same(missing, []);
});

onService("BPF_MAP_TYPE_BLOOM_FILTER never says perhaps, and counts what is new", (t, service) => {
  const map_fd = create(service, { ...BLOOM, max_entries: 1 });
  for (const value of [A, A, B]) update(service, map_fd, null, value);
  t.equal(service.entryCount(map_fd), 2);
  const wrong = Array.from({ length: 200 }, (_, at) => u32(at)).filter(
    (value) => ask(service, "BPF_MAP_LOOKUP_ELEM", { map_fd, value }) !== "ENOENT",
  );
  t.same(wrong, []);
});
