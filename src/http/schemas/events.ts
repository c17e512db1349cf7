/**
 * The schema of an event as the API shows it. `attr` and `out` have the fields of all commands and all outcomes. If the
 * schema lacks one of them, it does not compile.
 */

import type { TSchema } from "typebox";
import { CREATE_FIELDS, type FieldKind } from "../../abi/attr.ts";
import { CAPABILITIES, DRIFT_POLICIES, MIRROR_SHAPES, ON_REPLACE, SIDES } from "../../abi/service.ts";
import type { Action } from "../../syscall/command.ts";
import type { Out } from "../../syscall/outcome.ts";
import { all, CLOSED, hex, nullable, nullableHex, oneOf, optional, position, seq } from "./fields.ts";
import { Type } from "./type.ts";

const integer = (description?: string): TSchema => Type.Integer(description === undefined ? {} : { description });
const text = (description?: string): TSchema => Type.String(description === undefined ? {} : { description });
const word = (words: readonly string[], description?: string): TSchema =>
  Type.Enum([...words], { type: "string", ...(description !== undefined && { description }) });
const note = (description: string): TSchema => nullable("string", { description });

const integers = <const Name extends string>(names: readonly Name[]) => all(names, integer());

const ObjectFacts = Type.Object(
  {
    kind: text("pipe, file, dir, socket, process, cgroup, perf_event, prog or btf."),
    ...optional({
      path: note("Of a file, a directory or a cgroup."),
      inode: text("Of a file or a directory: device and inode number."),
      protocol: text("Of a socket."),
      state: text("Of a socket."),
      reuseport: Type.Boolean({ description: "Of a socket: SO_REUSEPORT." }),
      cookie: text("Of a socket: SO_COOKIE, a u64 as digits."),
      pid: integer("Of a process."),
      startTime: text("Of a process: clock ticks since the boot, as in /proc/PID/stat."),
      exited: Type.Boolean({ description: "Of a process." }),
      cgroupId: text("Of a cgroup: its inode number, a u64 as digits."),
      removed: Type.Boolean({ description: "Of a cgroup." }),
      progId: integer("Of a program."),
      progType: integer("Of a program: enum bpf_prog_type."),
      expectedAttachType: integer("Of a program: enum bpf_attach_type."),
      name: text("Of a program."),
      tag: text("Of a program, in hex."),
      loadTime: text("Of a program, in ns since the boot, as digits."),
      boot: text("Of a program: the boot in which it was loaded, /proc/sys/kernel/random/boot_id."),
      btfId: integer("Of BTF."),
      data: text("Of BTF: the blob, in hex."),
    }),
  },
  { $id: "ObjectFacts", ...CLOSED, description: "The machine's facts about an object." },
);

const Found = Type.Object(
  optional({
    facts: ObjectFacts,
    errno: text("The errno with which the machine refused it."),
    detail: text("Why the machine refused it."),
  }),
  { $id: "Found", ...CLOSED, description: "The machine's object, or the reason why there is none." },
);

const AttrProcess = Type.Object(
  { pid: integer(), uid: integer(), start_time: text(), boot: text("/proc/sys/kernel/random/boot_id") },
  { $id: "AttrProcess", ...CLOSED, description: "The process that a session lives by." },
);

const Fault = Type.Object(
  { errno: text(), detail: text() },
  { $id: "AttrFault", ...CLOSED, description: "Why the attr of a known command was not read." },
);

const ArchiveFile = Type.Object(
  { name: text(), sha256: text("In hex.") },
  { $id: "ArchiveFile", ...CLOSED, description: "A file of an archive." },
);

const ConfiguredCaller = Type.Object(
  { name: text(), by: text("How the caller is recognised: token, uid or certificate."), scopes: Type.Array(text()) },
  { $id: "ConfiguredCaller", ...CLOSED, description: "A line of the tokens' file, without its hash." },
);

const CERTIFICATE = Type.Object(
  {
    subject: text(),
    issuer: text(),
    serial: text("In hex."),
    not_before: text(),
    not_after: text(),
    sha256: text("In hex."),
  },
  { $id: "CertificateFacts", ...CLOSED },
);

const RestoreNote = Type.Object(
  { map: integer(), at: seq(), reason: text() },
  {
    $id: "RestoreNote",
    ...CLOSED,
    description: "Of a command of a restore: the restored map, the seq as of which, and the reason.",
  },
);

const Part = Type.Object(
  {
    at: integer("Elements (of reads and stores of memory, bytes) before it."),
    of: integer("Elements (or bytes) of the whole command."),
    seq: Type.Optional(integer("The seq of the first piece's event; missing in the first piece.")),
  },
  { $id: "CommandPart", ...CLOSED, description: "Of a piece of a large command." },
);

/** Three fields that have different types in different commands: their schemas have none. */
const MAP = Type.Unsafe({
  description:
    "The caller's reference to the map, if the event's `map` does not say it: an object with `by` (id, name or pinned) and `id`, `name` or `pathname`. Of MIRROR_FREED and FREE_DEFERRED: the id of the freed map.",
});
const WAS = Type.Unsafe({
  description:
    "The earlier state: of MIRROR_ commands the kernel's id of a kernel map or null, of CLOCK_STEP a time, of BACKUP_RESTORE a ledger's life.",
});
const CONTINUES = Type.Unsafe({
  description:
    "The continuation: of TREE_BEGIN whether the new tree continues the checkpoint in `signed`, of BACKUP_RESTORE the note of the newest checkpoint in the backup, or null.",
});

const CutInput = Type.Object(optional({ key: integer(), value: integer() }), {
  $id: "CutInput",
  ...CLOSED,
  description: "Of a refused command whose key or value is cut in the event: the bytes that it had.",
});

/** The names of commands' own fields in `attr`, as log/attr.ts writes them. `held`, a real object, is in no event. */
type Said = Action extends infer One ? (One extends { readonly attr: infer Attr } ? FieldsOf<Attr> : never) : never;
type FieldsOf<Attr> = Attr extends unknown ? Exclude<keyof Attr, "held"> & string : never;
type Snake<Name extends string> = Name extends `${infer First}${infer Rest}`
  ? `${First extends Lowercase<First> ? First : `_${Lowercase<First>}`}${Snake<Rest>}`
  : Name;

/** Fields that log/event.ts adds, and `fault` of a command that was not read. */
type Kept = "fault" | "map" | "key_room" | "value_room" | "info" | "exact";

type CreationName = (typeof CREATE_FIELDS)[number]["name"];

const BY_KIND: Readonly<Record<FieldKind, () => TSchema>> = {
  u32: integer,
  s32: integer,
  u64: () => text("A u64, as digits."),
  fd: integer,
  char16: text,
  pointer: nullableHex,
  path: text,
};

/** BPF_MAP_CREATE's fields, pointers last. */
const CREATION = Object.fromEntries(
  [...CREATE_FIELDS]
    .sort((one, other) => Number(one.kind === "pointer") - Number(other.kind === "pointer"))
    .map(({ name, kind }) => [name, BY_KIND[kind]()]),
) as Record<CreationName, TSchema>;

/** Fields have the names of union bpf_attr, if it has them. */
const ATTR = {
  // BPF_MAP_CREATE
  ...CREATION,
  adopted: integer("The kernel's id of the kernel map that was adopted."),
  adopted_pin: text(),
  on_replace: word(ON_REPLACE),
  mirror_shape: word(MIRROR_SHAPES),
  // The batch commands, and pages of elements
  count: integer(),
  elem_flags: text("A u64, as digits."),
  in_batch: nullableHex(),
  out_batch: nullableHex(),
  if_present: integer("How many keys were given. Those without an element were skipped."),
  after: nullableHex(),
  limit: integer(),
  // Pins, ids and descriptors
  pathname: note("A path; null is the null pointer."),
  found: Found,
  ...integers([
    "file_flags",
    "path_fd",
    "bpf_fd",
    "start_id",
    "map_id",
    "open_flags",
    "info_len",
    "btf_size",
    "btf_id",
  ]),
  fd_by_id_token_fd: integer(),
  // Sessions
  name: text("Of a session; or the name of an unknown command, as the caller wrote it."),
  fault: Fault,
  ttl_ms: nullable("integer"),
  capabilities: Type.Array(word(CAPABILITIES)),
  process: AttrProcess,
  reason: text(),
  // OPEN, OBJECT_END
  kind: text(),
  path: text(),
  reuseport: Type.Boolean(),
  ...integers(["pid", "id", "prog_type", "expected_attach_type", "object"]),
  // FREE_DEFERRED
  interfaces: integer("The map that is searched for elements of removed interfaces."),
  elements: integer("The most elements that the command works on."),
  // The memory of an array
  ...integers(["offset", "length"]),
  ifindexes: Type.Array(Type.Integer()),
  // The mirror
  operation: text(),
  errno: text(),
  detail: text(),
  policy: word(DRIFT_POLICIES),
  ...integers(["interval_ms", "missing", "changed", "extra", "both_changed", "evicted", "kernel_id"]),
  at: text("The occasion of the comparison, such as start; left out: the map's interval."),
  first_keys: Type.Array(hex()),
  what: text("Of MIRROR_FOUND: the change that the mirror noticed."),
  was: WAS,
  pin: text(),
  take: word(SIDES),
  keys: Type.Unsafe({ type: ["array", "null"], items: hex(), description: "null: all that differ." }),
  aside: note("Where the object that was pinned there is pinned now; null: there was none."),
  directory: text(),
  owner: text(),
  removed: Type.Array(text()),
  boot: text(),
  // Callers, scopes and certificates
  scope: text(),
  has: Type.Array(text()),
  request: text("Method and path."),
  more: integer("How many requests of the caller were refused since the last such event and have no event."),
  callers: Type.Array(ConfiguredCaller),
  certificate: CERTIFICATE,
  client_authorities: Type.Unsafe({
    type: ["array", "null"],
    items: CERTIFICATE,
    description: "null: clients need no certificate.",
  }),
  // Archives, checkpoints, trees, backups and the clock
  before: text(),
  ...integers(["first", "through", "time_us", "size"]),
  segments: Type.Array(ArchiveFile),
  state: ArchiveFile,
  ...all(["log", "possible_cpus", "life", "note", "branch", "vkey", "is"], text()),
  signed: note("The newest checkpoint that is known to have been signed."),
  continues: CONTINUES,
  signer: note("The verifier key of the former key; of BACKUP_RESTORE, of the key that signed `continues`."),
  // Of any command, beside its own
  map: MAP,
  key_room: integer("The size of the buffer for keys, if the caller gave one."),
  value_room: integer("The size of the buffer for values, if the caller gave one."),
  info: text("The caller's buffer of a BPF_OBJ_GET_INFO_BY_FD that was refused, or on BTF, in hex."),
  exact: Type.Boolean({
    description:
      "A key or a value was refused for its length. bpf(2) itself does not see lengths, and cannot refuse them.",
  }),
  restore: RestoreNote,
  imported: Type.Boolean({
    description: "The service's own command writes elements that the kernel map has already.",
  }),
  part: Part,
  cut: CutInput,
} satisfies Record<Snake<Said> | "restore" | "imported" | "part" | "cut" | Kept, TSchema>;

export const EventAttr = Type.Unsafe({
  $id: "EventAttr",
  type: ["object", "null"],
  properties: ATTR,
  ...CLOSED,
  description: "The fields of the command apart from key, value and flags. null: it has none.",
});

const Digest = Type.Object({ bytes: integer(), sha256: text("In hex.") }, { $id: "Digest", ...CLOSED });

const CutAnswer = Type.Object(optional({ key: Digest, value: Digest }), {
  $id: "CutAnswer",
  ...CLOSED,
  description: "Length and SHA-256 of the whole answer, if the event has only its beginning.",
});

const IdOrKey = oneOf([Type.Integer(), Type.String()], {
  $id: "NumberOrKey",
  description: "A number, or a key in hex.",
});

/** A list of pairs of a number and a key in hex. */
const keyed = (description: string): TSchema =>
  Type.Array(Type.Unsafe({ type: "array", items: IdOrKey, minItems: 2, maxItems: 2 }), { description });

const Deferred = Type.Object(optional(all(["maps", "objects", "interfaces"], Type.Array(Type.Integer()))), {
  $id: "Deferred",
  ...CLOSED,
  description:
    "Freed maps, ended objects and removed interfaces whose elements are deleted later, by FREE_DEFERRED events.",
});

const OUT = {
  count: integer(),
  out_batch: hex(),
  ...integers(["next_id", "info_len"]),
  hash: hex(),
  name: text("The name of the BTF, if the caller's info has a pointer for it."),
  btf_id: integer("The BTF that was loaded or opened."),
  session_id: integer("The session that was opened."),
  map_id: integer("The id that BPF_MAP_CREATE has used up."),
  taken: Type.Boolean({
    description: "The elements were deleted, although the answer could not be written (EFAULT).",
  }),
  ids: Type.Boolean({ description: "The answer shows ids where an update takes descriptors." }),
  more: Type.Boolean({ description: "More elements follow this page." }),
  pathname: text("Where a pin or a directory was made or removed."),
  freed: Type.Array(Type.Integer(), { description: "Maps that were freed, because nothing holds them any more." }),
  deferred: Deferred,
  memory: integer("The bytes of the map's memory."),
  object: integer("The object that the opened descriptor refers to."),
  stored_keys: text("The keys that were stored or removed, end to end in hex, if they are not the given ones."),
  stored_values: text("The values that were stored, end to end in hex, if they are not the given ones."),
  shown_values: text("The stored value as lookups show it, if that is not the beginning of the stored bytes."),
  emptied: Type.Boolean({ description: "The update has emptied the slot." }),
  unchanged: Type.Boolean({ description: "The command succeeded but changed nothing." }),
  gone: keyed(
    "Elements that were deleted together with an object, an open file or an interface: each by its map's id and its key.",
  ),
  evicted: keyed("Evicted elements: each by the number of elements that the command had stored before, and its key."),
  known_as: keyed(
    "Keys under which a trie had stored elements until then, if they differ from the given keys after the prefix: each by the number of elements stored before, and the key.",
  ),
  asked: hex(),
  answer: CutAnswer,
  quota: text("The caller's quota that the command would exceed."),
  session: text("Why the command did not run: its session is unknown, ended or foreign (another caller's)."),
} satisfies Record<Exclude<keyof Out, "absent">, TSchema>;

const EventOut = Type.Unsafe({
  $id: "EventOut",
  type: ["object", "null"],
  properties: OUT,
  ...CLOSED,
  description:
    "The other fields of the answer. If the answer of a read has more than 4,096 bytes, `answer` has the length and SHA-256 of its keys and of its " +
    "values; `key` and `value` have only its beginning, of a batch the first elements. The whole answer is in the state at this seq; of commands that " +
    "delete the elements that they answer, in the state before it.",
});

export const LogEventSchema = Type.Object(
  {
    seq: seq(),
    time: Type.String({ format: "date-time", description: "With microseconds." }),
    session: nullable("integer"),
    caller: Type.String(),
    peer: nullable("string", {
      description:
        "The sender: an address, or the uid and pid of the process that connected to the unix socket. null: the command is the " +
        "service's own, or of an earlier release.",
    }),
    cmd: Type.String(),
    map: nullable("integer"),
    fd: nullable("integer", { description: "The descriptor that was named." }),
    key: nullableHex(),
    value: nullableHex(),
    flags: Type.String({ description: "A u64, as digits." }),
    ret: Type.Integer(),
    errno: nullable("string"),
    detail: nullable("string", { description: "The rule that chose the errno." }),
    attr: EventAttr,
    out: EventOut,
    position: position(),
  },
  { $id: "LogEvent", ...CLOSED, description: "A command with its outcome and its place in the log." },
);
