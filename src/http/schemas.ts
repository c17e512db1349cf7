import { type TSchema, Type } from "typebox";
import { DRIFT_POLICIES, ON_REPLACE } from "../abi/service.ts";
import { MIRROR_SHAPES } from "../maps/lru_shape.ts";

/** The schemas that have a name in the document. Answers are closed: what they may hold is all listed. */

export const CLOSED = { additionalProperties: false } as const;
const U32_MAX = 2 ** 32 - 1;

const Hex = Type.String({
  $id: "Hex",
  description: "Bytes in hex, two digits a byte. Answers are lower case; upper case and a leading 0x are taken, too.",
});

const Seq = Type.Integer({
  $id: "Seq",
  minimum: 0,
  description: "The event's place in the log; 0 only as of before the first.",
});

const Scalar = Type.Union(
  [
    Type.Integer(),
    Type.String({ description: "Digits, 0x and hex digits, or the name of a constant of <linux/bpf.h>." }),
    Type.Array(Type.Union([Type.Integer(), Type.String()]), { description: "Flags, which are or-ed." }),
  ],
  { $id: "Scalar", description: "An integer: as a number, as digits in a string, by name, or as a list of flags." },
);

export const hex = (): TSchema => Type.Ref("Hex");
export const scalar = (): TSchema => Type.Ref("Scalar");
export const seq = (): TSchema => Type.Ref("Seq");
/** A type or null, written so that a document of OpenAPI 3.0 can say it, too. */
export const nullable = (type: "integer" | "number" | "string" | "object", options: object = {}): TSchema =>
  Type.Unsafe({ type: [type, "null"], ...options });
export const nullableHex = (): TSchema => nullable("string", { description: "Bytes in hex, or null." });

const ProblemSchema = Type.Object(
  {
    type: Type.String({
      description: "urn:mapledger:errno:NAME where a command was refused, else urn:mapledger:problem:NAME.",
    }),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String({ description: "The rule that was broken, and the numbers." }),
    errno: Type.Optional(Type.String({ description: "Name of the error number." })),
    cmd: Type.Optional(Type.String({ description: "Name of the command." })),
    seq: Type.Optional(seq()),
    count: Type.Optional(Type.Integer({ description: "Elements of a batch that were done before it was refused." })),
    where: Type.Optional(Type.String({ description: "The place in the request." })),
    oldest_seq: Type.Optional(Type.Integer({ description: "The oldest event that is not archived." })),
  },
  { $id: "Problem", ...CLOSED, description: "A problem document of RFC 9457." },
);

const Element = Type.Object({ key: hex(), value: hex() }, { $id: "Element", ...CLOSED });

const Value = Type.Object({ value: hex(), seq: seq() }, { $id: "Value", ...CLOSED });

const Done = Type.Object({ seq: seq() }, { $id: "Done", ...CLOSED });

const ElementPage = Type.Object(
  {
    elements: Type.Array(Type.Ref("Element")),
    next: nullableHex(),
    seq: seq(),
  },
  { $id: "ElementPage", ...CLOSED, description: "`next` is the next page's `after`, null at the end." },
);

const Batch = Type.Object(
  {
    elements: Type.Array(Type.Ref("Element")),
    count: Type.Integer(),
    out_batch: nullableHex(),
    end: Type.Boolean({ description: "The map ended here: the kernel said ENOENT." }),
    seq: seq(),
  },
  { $id: "Batch", ...CLOSED, description: "`out_batch` is the next call's `in_batch`." },
);

const BatchDone = Type.Object({ count: Type.Integer(), seq: seq() }, { $id: "BatchDone", ...CLOSED });

const Opened = Type.Object(
  { fd: Type.Integer(), map_id: Type.Optional(Type.Integer()), seq: seq() },
  { $id: "Opened", ...CLOSED, description: "A descriptor that was opened, and the map that it is of." },
);

/** What a session lives by, where that is a process. */
export const clientProcess = (): TSchema =>
  nullable("object", {
    properties: {
      pid: Type.Integer(),
      uid: Type.Integer({ description: "Its effective uid when the session was opened." }),
      start_time: Type.String({ description: "Clock ticks since the boot, as in /proc/PID/stat." }),
    },
    required: ["pid", "uid", "start_time"],
    ...CLOSED,
    description: "The process that it lives by, or null.",
  });

export const sessionTtl = (): TSchema => nullable("number", { description: "null where it lives by a process." });

const Session = Type.Object(
  {
    id: Type.Integer(),
    name: Type.String(),
    caller: Type.String({ description: "Who opened it, and who alone may use it." }),
    ttl_seconds: sessionTtl(),
    opened_at: Type.String({ format: "date-time" }),
    lease: nullable("string", {
      enum: ["ttl", "attached", "process", null],
      description: "What it lives by; null as of an earlier moment.",
    }),
    process: clientProcess(),
    left_seconds: nullable("number", {
      description: "Until it ends unless renewed; null while a stream is attached, and where it lives by a process.",
    }),
    fd_count: Type.Integer(),
    capabilities: Type.Array(Type.String(), { description: "What bpf(2) finds the process to have." }),
  },
  { $id: "Session", ...CLOSED },
);

const Descriptor = Type.Object(
  {
    fd: Type.Integer(),
    kind: Type.String({ description: "map, or what the object is: pipe, file, dir, socket, process, cgroup, ..." }),
    map_id: nullable("integer"),
    object: nullable("object", {
      additionalProperties: true,
      description: "Of what is no map: its id in the ledger, and what is known of it.",
    }),
    access: Type.Enum(["rw", "r", "w"], { type: "string", description: "What the descriptor lets its session do." }),
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
      "What is done about differences between the map and its kernel map. null: no policy was set; differences are repaired at a start, and " +
      "if somebody asks. Adopted maps begin with report.",
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
    mirror_shape: nullable("string", {
      enum: [...MIRROR_SHAPES, null],
      description:
        "Of an LRU map. exact: the kernel map has the max_entries and map_flags of the map, and the kernel evicts elements by its own rules. roomy: the kernel map has more room, and loses the elements that the ledger evicts. null: all other map types, whose kernel maps are always as asked for.",
    }),
    frozen: Type.Boolean(),
    inner_map: nullable("object", {
      additionalProperties: true,
      description: "Of a map of maps: what its inner maps have to agree with.",
    }),
    btf: nullable("object", {
      additionalProperties: true,
      description:
        "BTF of keys and values: btf_id, btf_key_type_id, btf_value_type_id, and fields only programs touch.",
    }),
    entries: Type.Integer({ description: "Elements present." }),
    holds: Type.Integer({ description: "Descriptors, pins and outer maps that hold it; at none it is freed." }),
    pinned: Type.Array(Type.String()),
    mirror: Type.Ref("Mirror"),
    adopted: nullable("object", {
      properties: {
        kernel_id: Type.Integer({ description: "The kernel's id of the kernel map that the map follows." }),
        pin: nullable("string", {
          description: "The path by which it was adopted; null: it was adopted by its kernel id.",
        }),
        on_replace: nullable("string", {
          enum: [...ON_REPLACE, null],
          description: "What the mirror does if `pin` names another kernel map; null if there is no `pin`.",
        }),
      },
      required: ["kernel_id", "pin", "on_replace"],
      ...CLOSED,
      description: "Of a map that was made by another program and adopted; null: mapledger made it.",
    }),
    released: Type.Boolean({
      description: "Its adoption was ended: it has no kernel map until one is made by recreate.",
    }),
    drift: driftPolicy(),
  },
  { $id: "Map", ...CLOSED },
);

const PinSchema = Type.Object({ pathname: Type.String(), map_id: Type.Integer() }, { $id: "Pin", ...CLOSED });

const Path = Type.Object({ pathname: Type.String(), seq: seq() }, { $id: "Path", ...CLOSED });

const OUT =
  "What else was answered. If the answer of a read has more than 4,096 bytes, `answer` has the length and SHA-256 of its keys and of its " +
  "values: `key` and `value` then are their beginning, of a batch the first elements. The state at this seq has the rest, as has, " +
  "of commands that take elements out, the state before it.";

const EventSchema = Type.Object(
  {
    seq: seq(),
    time: Type.String({ format: "date-time", description: "With microseconds." }),
    session: nullable("integer"),
    caller: Type.String(),
    cmd: Type.String(),
    map: nullable("integer"),
    fd: nullable("integer", { description: "The descriptor that was named." }),
    key: nullableHex(),
    value: nullableHex(),
    flags: Type.Union([Type.Integer(), Type.String()], { description: "Digits in a string beyond 2^53." }),
    ret: Type.Integer(),
    errno: nullable("string"),
    detail: nullable("string", { description: "The rule that chose the errno." }),
    attr: nullable("object", { additionalProperties: true, description: "What else the command said." }),
    out: nullable("object", { additionalProperties: true, description: OUT }),
  },
  { $id: "Event", ...CLOSED, description: "A command with its outcome and its place in the log." },
);

export const SHARED = [
  Hex,
  Seq,
  Scalar,
  ProblemSchema,
  Element,
  Value,
  Done,
  ElementPage,
  Batch,
  BatchDone,
  Opened,
  Session,
  Descriptor,
  MirrorSchema,
  MapSchema,
  PinSchema,
  Path,
  EventSchema,
];

// Paths and queries.

export const SessionParams = Type.Object({ session: Type.Integer({ minimum: 1, maximum: U32_MAX, examples: [1] }) });

export const FdParams = Type.Object({
  session: Type.Integer({ minimum: 1, maximum: U32_MAX, examples: [1] }),
  fd: Type.Integer({ minimum: 0, maximum: 2 ** 31 - 1, examples: [3] }),
});

const map = Type.String({
  description: "A map's id, name:NAME, or pinned:PATH with the path percent-encoded.",
  examples: ["name:counters"],
});

export const MapParams = Type.Object({ map });

export const Key = Type.String({ description: "A key in hex.", examples: ["01000000"] });

export const PathnameParams = Type.Object({
  pathname: Type.String({ description: "A path on bpffs, percent-encoded.", examples: ["/sys/fs/bpf/counters"] }),
});

/** How many items a page has. Optional, so that clients need not send what the service fills in. */
export const limit = (most: number, fallback: number) =>
  Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: most,
      default: Math.min(most, fallback),
      description: "Most items of the page.",
    }),
  );

/** Where a list of things with numbers goes on. */
export const after = Type.Optional(Type.Integer({ minimum: 0, default: 0, description: "The last page's `next`." }));
