/**
 * Schemas that several routes share; most have a name ($id) in the API's document. Objects in answers are closed: their
 * schemas list every field that an answer may have.
 */

import type { Static, TProperties, TSchema } from "typebox";
import { DRIFT_POLICIES, MIRROR_SHAPES, ON_REPLACE } from "../../abi/service.ts";
import { PINNED_MAX } from "../../engine/views.ts";
import { Type } from "./type.ts";

export const CLOSED = { additionalProperties: false } as const;
const U32_MAX = 2 ** 32 - 1;

const Hex = Type.String({
  $id: "Hex",
  description: "Bytes in hex, two digits a byte. Answers are lower case; upper case and a leading 0x are taken, too.",
});

const Seq = Type.Integer({
  $id: "Seq",
  minimum: 0,
  description: "The event's place in the log. 0: the moment before the first event.",
});

const Scalar = oneOf(
  [
    Type.Integer(),
    Type.String({ description: "Digits, 0x and hex digits, or the name of a constant of <linux/bpf.h>." }),
    Type.Array(Type.String(), { description: "Flags, which are or-ed." }),
  ],
  { $id: "Scalar", description: "An integer: as a number, as digits in a string, by name, or as a list of flags." },
);

/** The most items of a list's page, whatever its `limit`, so that no page takes long. */
export const LIST_MAX = 1000;

/** The same fields, each of which may be absent. */
export const optional = (fields: Readonly<Record<string, TSchema>>): Record<string, TSchema> =>
  Object.fromEntries(Object.entries(fields).map(([name, schema]) => [name, Type.Optional(schema)]));

/** Fields that have one schema. */
export const all = <const Name extends string>(names: readonly Name[], schema: TSchema): Record<Name, TSchema> =>
  Object.fromEntries(names.map((name) => [name, schema])) as Record<Name, TSchema>;

export const hex = () => Type.Unsafe<string>(Type.Ref("Hex"));
export const scalar = (): TSchema => Type.Ref("Scalar");
export const seq = () => Type.Unsafe<number>(Type.Ref("Seq"));
/** A type or null, in a form that OpenAPI 3.0 can express, too. */
export const nullable = (type: "integer" | "number" | "string" | "object", options: object = {}): TSchema =>
  Type.Unsafe({ type: [type, "null"], ...options });
/** A position in an answer. */
export const position = (): TSchema => Type.Ref("Position");
export const nullableHex = (): TSchema => nullable("string", { description: "Bytes in hex, or null." });
/** One of several words, or null. It has two alternatives, because an enum of type string cannot have null. */
export const nullableWord = (words: readonly string[], options: object = {}): TSchema =>
  Type.Unsafe({ ...oneOf([Type.Enum([...words], { type: "string" }), Type.Null()]), ...options });

/** A value that one of several schemas allows; its JSON type says which. Objects need `oneOfNamed`. */
export function oneOf<Schemas extends readonly TSchema[]>(schemas: Schemas, options: object = {}) {
  return Type.Unsafe<Static<Schemas[number]>>({ oneOf: schemas, ...options });
}

/** The schema of an object, with its name in the document. */
export type NamedObject = TSchema & { readonly $id: string; readonly properties: Readonly<Record<string, TSchema>> };

/** The schema of a closed object, with its name in the document. */
export function named<Properties extends TProperties>($id: string, properties: Properties, options: object = {}) {
  return Object.assign(Type.Object(properties, { $id, ...CLOSED, ...options }), { $id });
}

/** One of several objects. An object's `field` is one of the words in `members`, and says which schema it has. */
export function oneOfNamed(field: string, members: Readonly<Record<string, NamedObject>>, options: object): TSchema {
  const mapping = Object.entries(members).map(([word, { $id }]) => [word, `#/components/schemas/${$id}`]);
  const discriminator = { propertyName: field, mapping: Object.fromEntries(mapping) };
  return Type.Unsafe({ oneOf: Object.values(members), discriminator, ...options });
}

export const OctetsSchema: TSchema = Type.Unsafe({ $id: "Octets", type: "string", format: "binary" });

/** Where the next page of elements begins. */
export const nextPage = (): TSchema =>
  nullable("string", {
    description: "The next page's `after`: an opaque text, valid for this map only. null: this is the last page.",
  });

const PositionSchema = Type.String({
  $id: "Position",
  description:
    "A place in this log, as an opaque text for `after`, `before` and Last-Event-ID. It is refused if it is not a place in this log, for example after a backup was restored.",
  examples: ["ECtPf1x6LuAot08y0QAAAAAAEVw6keSyB4asdUk"],
});

const ProblemSchema = Type.Object(
  {
    type: Type.String({
      description:
        "urn:mapledger:errno:NAME if a command was refused with that errno, otherwise urn:mapledger:problem:NAME.",
    }),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String({ description: "The rule that was broken, and the numbers." }),
    errno: Type.Optional(Type.String({ description: "Name of the error number." })),
    cmd: Type.Optional(Type.String({ description: "Name of the command." })),
    seq: Type.Optional(seq()),
    count: Type.Optional(Type.Integer({ description: "Elements of a batch that were done before it was refused." })),
    quota: Type.Optional(Type.String({ description: "The caller's quota that the request would exceed." })),
    where: Type.Optional(Type.String({ description: "The place in the request." })),
    oldest_seq: Type.Optional(Type.Integer({ description: "The oldest event that is not archived." })),
    reached_seq: Type.Optional(Type.Integer({ description: "The last event that the history has by now." })),
    reason: Type.Optional(
      Type.String({
        description:
          "Why a position is refused: other-log, other-life (the log was restored from a backup), other-event, no-such-event, or other-map.",
      }),
    ),
  },
  { $id: "Problem", ...CLOSED, description: "A problem document of RFC 9457." },
);

/** The fields that `?as=` adds to an element. */
const FORMS = {
  typed: Type.Optional(
    Type.Unsafe<unknown>({
      description: "`key` and `value` as JSON that a body takes back; null: `untyped` says why.",
    }),
  ),
  formatted: Type.Optional(Type.Unsafe<unknown>({ description: "`key` and `value` as bpftool prints them." })),
  untyped: Type.Optional(Type.String({ description: "The place without the form, and the reason." })),
};

const MapElement = Type.Object(
  {
    key: hex(),
    value: hex(),
    ...FORMS,
    shows: Type.Optional(
      Type.Enum(["ids"], {
        type: "string",
        description:
          "`ids`: the value (or the key) shows the id of a map, program, socket or the like. An update takes a descriptor there, and refuses elements that have this field.",
      }),
    ),
  },
  { $id: "MapElement", ...CLOSED },
);

const Value = Type.Object({ value: hex(), ...FORMS, seq: seq() }, { $id: "Value", ...CLOSED });

const Done = Type.Object({ seq: seq() }, { $id: "Done", ...CLOSED });

const ElementPage = Type.Object(
  {
    elements: Type.Array(Type.Ref("MapElement")),
    next: nextPage(),
    seq: seq(),
  },
  { $id: "ElementPage", ...CLOSED },
);

const Batch = Type.Object(
  {
    elements: Type.Array(Type.Ref("MapElement")),
    count: Type.Integer(),
    out_batch: nullableHex(),
    end: Type.Boolean({ description: "The batch has reached the end of the map, which bpf(2) reports as ENOENT." }),
    seq: seq(),
  },
  { $id: "Batch", ...CLOSED, description: "`out_batch` is the next call's `in_batch`." },
);

const BatchDone = Type.Object({ count: Type.Integer(), seq: seq() }, { $id: "BatchDone", ...CLOSED });

const DeleteBatchDone = Type.Object(
  {
    count: Type.Integer({ description: "Elements that were deleted." }),
    absent: Type.Integer({ description: "Keys without an element that were passed over; 0 without `if_present`." }),
    seq: seq(),
  },
  { $id: "DeleteBatchDone", ...CLOSED },
);

const Opened = Type.Object(
  { fd: Type.Integer(), map_id: Type.Optional(Type.Integer()), seq: seq() },
  { $id: "Opened", ...CLOSED, description: "A descriptor that was opened, and the id of its map if it has one." },
);

/** The process that a session lives by. */
export const clientProcess = (): TSchema =>
  nullable("object", {
    $id: "ClientProcess",
    properties: {
      pid: Type.Integer(),
      uid: Type.Integer({ description: "Its effective uid when the session was opened." }),
      start_time: Type.String({ description: "Clock ticks since the boot, as in /proc/PID/stat." }),
    },
    required: ["pid", "uid", "start_time"],
    ...CLOSED,
    description: "The process that the session lives by; null: it lives by its TTL or a stream.",
  });

export const sessionTtl = (): TSchema => nullable("number", { description: "null: the session lives by a process." });

const Session = Type.Object(
  {
    id: Type.Integer(),
    name: Type.String(),
    caller: Type.String({ description: "Who opened it, and who alone may use it." }),
    ttl_seconds: sessionTtl(),
    opened_at: Type.String({ format: "date-time" }),
    lease: nullableWord(["ttl", "attached", "process"], {
      description: "The kind of lease on which the session lives; null as of an earlier moment.",
    }),
    process: clientProcess(),
    left_seconds: nullable("number", {
      description:
        "Seconds until it ends unless it is renewed; null while a stream is attached, if it lives by a process, and as of an earlier moment.",
    }),
    fd_count: Type.Integer(),
    capabilities: Type.Array(Type.String(), { description: "The capabilities that bpf(2) finds the process to have." }),
  },
  { $id: "Session", ...CLOSED },
);

const DescriptorObject = nullable("object", {
  $id: "DescriptorObject",
  properties: {
    id: Type.Integer({ description: "Its id in the ledger." }),
    path: nullable("string", { description: "Of a file, a directory or a cgroup; null: nobody else can open it." }),
    pid: Type.Integer({ description: "Of a process." }),
    exited: Type.Boolean({ description: "Of a process." }),
    cgroup_id: Type.String({ description: "Of a cgroup: its inode number, a u64 as digits." }),
    removed: Type.Boolean({ description: "Of a cgroup: rmdir(2) has taken it away." }),
    prog_id: Type.Integer({ description: "Of a program: its id, for BPF_PROG_GET_FD_BY_ID." }),
    prog_type: Type.Integer({ description: "Of a program: enum bpf_prog_type." }),
    expected_attach_type: Type.Integer({ description: "Of a program: enum bpf_attach_type." }),
    name: Type.String({ description: "Of a program." }),
    tag: nullable("string", { description: "Of a program, in hex; null: the kernel has none of it." }),
    load_time: nullable("string", {
      description: "Of a program, in ns since the boot, as digits; null: the kernel has none of it.",
    }),
    btf_id: Type.Integer({ description: "Of BTF." }),
    protocol: Type.Enum(["tcp", "udp", "unix_stream", "unix_dgram", "xsk"], {
      type: "string",
      description: "Of a socket.",
    }),
    state: Type.Enum(["idle", "bound", "listening", "connected"], { type: "string", description: "Of a socket." }),
    reuseport: Type.Boolean({ description: "Of a socket: SO_REUSEPORT." }),
    cookie: Type.String({ description: "Of a socket: SO_COOKIE, a u64 as digits." }),
  },
  required: ["id"],
  ...CLOSED,
  description: "The object's id in the ledger, and the known facts about it. null: the descriptor is a map's.",
});

const Descriptor = Type.Object(
  {
    fd: Type.Integer(),
    kind: Type.String({ description: "map, or the kind of object: pipe, file, dir, socket, process, cgroup, ..." }),
    map_id: nullable("integer"),
    object: DescriptorObject,
    access: Type.Enum(["rw", "r", "w"], {
      type: "string",
      description: "The access that the descriptor gives its session.",
    }),
  },
  { $id: "Descriptor", ...CLOSED },
);

const MirrorSchema = Type.Object(
  {
    state: Type.Enum(["on", "failed", "lost", "waiting", "off"], {
      type: "string",
      description:
        "on: the kernel map follows the map. failed: the kernel refused `operation`, and the mirror tries it again. lost: the pin of an " +
        "adopted map is gone or names another kernel map, or nothing but the mirror holds the kernel map. waiting: the kernel map of an " +
        "adopted map no longer exists, and the mirror makes none in its place. off: the map has no kernel map.",
    }),
    kernel_id: Type.Optional(
      Type.Integer({
        description: "The kernel's id of the kernel map: in on and lost, and in failed if there is a kernel map.",
      }),
    ),
    pinned: Type.Optional(Type.String({ description: "Where on bpffs the mirror has pinned the kernel map." })),
    max_entries: Type.Optional(
      Type.Integer({
        description:
          "max_entries of the kernel map. If mirror_shape is roomy, it is larger than the map's, by the elements that the kernel keeps free, so that the kernel evicts nothing by itself.",
      }),
    ),
    equal: Type.Optional(
      Type.Enum(["yes", "no", "unknown"], {
        type: "string",
        description:
          "Whether the last comparison found the kernel map equal to the map. unknown: they were not compared yet, or the kernel does not show the elements of this type.",
      }),
    ),
    held: Type.Optional(
      Type.Enum(["yes", "unknown"], {
        type: "string",
        description:
          "Only of adopted maps: whether anything but the mirror holds the kernel map (a pin, a program, a map of maps). unknown: `detail` says why.",
      }),
    ),
    operation: Type.Optional(Type.String({ description: "Of failed: the operation that the kernel refused." })),
    errno: Type.Optional(Type.String({ description: "Of failed: with this errno." })),
    detail: Type.Optional(
      Type.String({
        description:
          "Why the state is another than on; of on: pins that are missing or replaced, or why `held` is unknown.",
      }),
    ),
  },
  { $id: "Mirror", ...CLOSED, description: "How a map stands with its kernel map." },
);

/** The policy about drift that is in force. */
export const driftPolicy = (): TSchema =>
  nullable("object", {
    $id: "DriftPolicy",
    properties: {
      policy: Type.Enum([...DRIFT_POLICIES], { type: "string" }),
      interval_seconds: Type.Number({
        description: "Seconds between two comparisons; 0: only at a start, and if somebody asks.",
      }),
      undecided: Type.Optional(
        Type.Boolean({
          description:
            "The directory of pins was taken over, and nobody has decided since whose elements are right: until then the policy is report.",
        }),
      ),
    },
    required: ["policy", "interval_seconds"],
    ...CLOSED,
    description:
      "The policy about differences between the map and its kernel map. null: no policy was set; differences are repaired at a start, and " +
      "if somebody asks. Adopted maps begin with report.",
  });

/** The shape of an LRU map's kernel map. */
const mirrorShape = (): TSchema =>
  nullableWord(MIRROR_SHAPES, {
    description:
      "Of an LRU map. exact: the kernel map has the max_entries and map_flags of the map, and the kernel evicts elements by its own rules. roomy: the kernel map has more room, and loses the elements that the ledger evicts. null: all other map types, whose kernel maps are always as asked for.",
  });

const InnerMap = nullable("object", {
  $id: "InnerMap",
  properties: {
    map_type: Type.String({ description: "A name of enum bpf_map_type." }),
    key_size: Type.Integer(),
    value_size: Type.Integer(),
    max_entries: Type.Integer(),
    map_flags: Type.Array(Type.String()),
    mirror_shape: mirrorShape(),
  },
  required: ["map_type", "key_size", "value_size", "max_entries", "map_flags", "mirror_shape"],
  ...CLOSED,
  description: "Of a map of maps: the definition that its inner maps must match. null: of other maps.",
});

const MapBtf = nullable("object", {
  $id: "MapBtf",
  properties: {
    btf_id: Type.Integer(),
    btf_key_type_id: Type.Integer(),
    btf_value_type_id: Type.Integer(),
    fields: Type.Array(
      Type.Object(
        {
          kind: Type.String({ description: "The type's name, as in bpf_spin_lock." }),
          offset: Type.Integer({ description: "In bytes." }),
          size: Type.Integer({ description: "In bytes." }),
        },
        { $id: "SpecialField", ...CLOSED, description: "A field of a value that only programs touch." },
      ),
    ),
  },
  required: ["btf_id", "btf_key_type_id", "btf_value_type_id", "fields"],
  ...CLOSED,
  description: "BTF of keys and values. null: there is none.",
});

const Adoption = nullable("object", {
  $id: "Adoption",
  properties: {
    kernel_id: Type.Integer({ description: "The kernel's id of the kernel map that the map follows." }),
    pin: nullable("string", {
      description: "The path by which it was adopted; null: it was adopted by its kernel id.",
    }),
    on_replace: nullableWord(ON_REPLACE, {
      description: "The reaction of the mirror if `pin` names another kernel map; null if there is no `pin`.",
    }),
  },
  required: ["kernel_id", "pin", "on_replace"],
  ...CLOSED,
  description: "Of a map that was made by another program and adopted; null: mapledger made it.",
});

const MapSchema = Type.Object(
  {
    id: Type.Integer(),
    map_type: Type.String({ description: "A name of enum bpf_map_type." }),
    key_size: Type.Integer(),
    value_size: Type.Integer(),
    max_entries: Type.Integer(),
    map_flags: Type.Array(Type.String()),
    name: Type.String(),
    map_extra: Type.String({ description: "A u64, as digits." }),
    numa_node: nullable("integer"),
    mirror_shape: mirrorShape(),
    frozen: Type.Boolean(),
    inner_map: InnerMap,
    btf: MapBtf,
    entries: Type.Integer({
      description: "Elements that its pages list: those that are present; of an array all, max_entries.",
    }),
    written: nullable("integer", {
      description:
        "Of an array: how many of its elements were ever written; the rest are zeros. null: of other types, and of an array that an earlier release has written to and archived.",
    }),
    possible_cpus: nullable("integer", {
      description:
        "Of a per-CPU map: how many CPUs an element has values for; they lie end to end, each of value_size rounded up to 8 bytes. null: of other maps.",
    }),
    holds: Type.Integer({
      description: "How many descriptors, pins and outer maps hold it. If there are none, the map is freed.",
    }),
    pinned: Type.Array(Type.String(), {
      description: `Where it is pinned: the first ${PINNED_MAX} paths in their order; \`GET /v1/pins\` has all.`,
    }),
    pins: Type.Integer({ description: "At how many paths it is pinned." }),
    mirror: Type.Ref("Mirror"),
    adopted: Adoption,
    released: Type.Boolean({
      description: "Its adoption was ended: it has no kernel map until one is made by recreate.",
    }),
    drift: driftPolicy(),
  },
  { $id: "BpfMap", ...CLOSED },
);

const PinSchema = Type.Object({ pathname: Type.String(), map_id: Type.Integer() }, { $id: "Pin", ...CLOSED });

const PinPath = Type.Object({ pathname: Type.String(), seq: seq() }, { $id: "PinPath", ...CLOSED });

/** A moment in a body. In a query it is text. */
export const Moment = oneOf([Type.Integer({ minimum: 0 }), Type.String()], {
  $id: "Moment",
  description: "A seq, or a time in RFC 3339.",
});

/** The body of an update of one element, and of a push. */
export const ValueBody = Type.Object({ value: hex(), flags: Type.Optional(scalar()) }, { $id: "ValueBody", ...CLOSED });

/** The body of an update of one element. */
export const FormedBody = Type.Object(
  {
    value: Type.Optional(hex()),
    typed: Type.Optional(Type.Unsafe<unknown>({ description: "The value as answers with `as=typed` have it." })),
    formatted: Type.Optional(
      Type.Unsafe<unknown>({ description: "The value as answers with `as=formatted` have it." }),
    ),
    flags: Type.Optional(scalar()),
  },
  { $id: "FormedBody", ...CLOSED },
);

/** Elements, one a line. */
export const ElementLines = Type.Unsafe<string>({
  $id: "ElementLines",
  type: "string",
  "x-ndjson-item": Type.Ref("MapElement"),
  description: "Elements as JSON, one a line.",
});

/** Events, one a line. */
export const EventLines = Type.Unsafe<string>({
  $id: "EventLines",
  type: "string",
  "x-ndjson-item": Type.Ref("LogEvent"),
  description: "Events as JSON, one a line.",
});

export const SHARED = [
  Hex,
  Seq,
  PositionSchema,
  Scalar,
  ProblemSchema,
  MapElement,
  Value,
  Done,
  ElementPage,
  Batch,
  BatchDone,
  DeleteBatchDone,
  Opened,
  Session,
  Descriptor,
  MirrorSchema,
  MapSchema,
  PinSchema,
  PinPath,
];

// Parameters of paths and queries.

export const SessionParams = Type.Object({ session: Type.Integer({ minimum: 1, maximum: U32_MAX, examples: [1] }) });

export const FdParams = Type.Object({
  session: Type.Integer({ minimum: 1, maximum: U32_MAX, examples: [1] }),
  fd: Type.Integer({ minimum: 0, maximum: 2 ** 31 - 1, examples: [3] }),
});

const map = Type.String({
  description:
    "A map's id, name:NAME, or pinned:PATH, which begins at /sys/fs/bpf if it is relative. The path's slashes need not be percent-encoded, unless it ends like the path of a route (/elements).",
  examples: ["name:counters"],
});

export const MapParams = Type.Object({ map });

export const Key = Type.String({ description: "A key in hex.", examples: ["01000000"] });

export const PathnameParams = Type.Object({
  pathname: Type.String({
    description: "A path on bpffs, percent-encoded; slashes need not be.",
    examples: ["/sys/fs/bpf/counters"],
  }),
});

/** A field with a default: clients may omit it, handlers always have it. */
const filledIn = <Field extends TSchema>(schema: Field) => Type.Unsafe<Static<Field>>(Type.Optional(schema));

/** The `limit` of a page: `most` is its maximum, `fallback` its default. */
export const limit = (most: number, fallback: number) =>
  filledIn(
    Type.Integer({
      minimum: 1,
      maximum: most,
      default: Math.min(most, fallback),
      description: "The maximum number of items in the page.",
    }),
  );

/** The `after` of a list whose items have numbers. */
export const after = filledIn(
  Type.Integer({ minimum: 0, default: 0, description: "`next` of the previous page: the page begins after it." }),
);

/** The `after` of a list whose items have names. */
export const afterName = (example: string) =>
  filledIn(
    Type.String({
      default: "",
      description: "`next` of the previous page: the page begins after it.",
      examples: [example],
    }),
  );
