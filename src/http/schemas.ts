import { type TSchema, Type } from "typebox";
import { BPF_ELEM, BPF_F, BPF_MAP_TYPE } from "../abi/bpf.ts";
import { ERRNO, type Errno } from "../abi/errno.ts";
import { CMD } from "../abi/service.ts";
import { type ProblemDocument, type ProblemExtras, type ProblemName, problemDocument } from "./problems.ts";

/** The schemas that have a name in the document. Answers are closed: what they may hold is all listed. */

const CLOSED = { additionalProperties: false } as const;
const U32_MAX = 2 ** 32 - 1;

export const Hex = Type.String({
  $id: "Hex",
  description: "Bytes in hex, two digits a byte. Answers are lower case; upper case and a leading 0x are taken, too.",
});

export const Seq = Type.Integer({ $id: "Seq", minimum: 1, description: "The event's place in the log." });

export const Scalar = Type.Union(
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
const nullableHex = (): TSchema => nullable("string", { description: "Bytes in hex, or null." });

export const ProblemSchema = Type.Object(
  {
    type: Type.String({ description: "urn:mapledger:errno:NAME where a command was refused, else urn:mapledger:problem:NAME." }),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String({ description: "The rule that was broken, and the numbers." }),
    errno: Type.Optional(Type.String({ description: "Name of the error number." })),
    cmd: Type.Optional(Type.String({ description: "Name of the command." })),
    seq: Type.Optional(seq()),
    count: Type.Optional(Type.Integer({ description: "Elements of a batch that were done before it was refused." })),
    where: Type.Optional(Type.String({ description: "The place in the request." })),
  },
  { $id: "Problem", ...CLOSED, description: "A problem document of RFC 9457." },
);

export const Element = Type.Object({ key: hex(), value: hex() }, { $id: "Element", ...CLOSED });

export const Value = Type.Object(
  { value: hex(), seq: seq() },
  { $id: "Value", ...CLOSED },
);

export const Done = Type.Object({ seq: seq() }, { $id: "Done", ...CLOSED });

export const ElementPage = Type.Object(
  {
    elements: Type.Array(Type.Ref("Element")),
    next: nullableHex(),
    seq: seq(),
  },
  { $id: "ElementPage", ...CLOSED, description: "`next` is the next page's `after`, null at the end." },
);

export const Batch = Type.Object(
  {
    elements: Type.Array(Type.Ref("Element")),
    count: Type.Integer(),
    out_batch: nullableHex(),
    end: Type.Boolean({ description: "The map ended here: the kernel said ENOENT." }),
    seq: seq(),
  },
  { $id: "Batch", ...CLOSED, description: "`out_batch` is the next call's `in_batch`." },
);

export const BatchDone = Type.Object({ count: Type.Integer(), seq: seq() }, { $id: "BatchDone", ...CLOSED });

export const Opened = Type.Object(
  { fd: Type.Integer(), map_id: Type.Optional(Type.Integer()), seq: seq() },
  { $id: "Opened", ...CLOSED, description: "A descriptor that was opened, and the map that it is of." },
);

export const Session = Type.Object(
  {
    id: Type.Integer(),
    name: Type.String(),
    caller: Type.String({ description: "Who opened it, and who alone may use it." }),
    ttl_seconds: Type.Number(),
    opened_at: Type.String({ format: "date-time" }),
    lease: Type.Enum(["ttl", "attached"], { type: "string", description: "What it lives by." }),
    left_seconds: nullable("number", { description: "Until it ends unless renewed; null while a stream is attached." }),
    fd_count: Type.Integer(),
  },
  { $id: "Session", ...CLOSED },
);

export const Descriptor = Type.Object(
  {
    fd: Type.Integer(),
    kind: Type.String({ description: "map, pipe or file." }),
    map_id: nullable("integer"),
    access: Type.Enum(["rw", "r", "w"], { type: "string", description: "What the descriptor lets its session do." }),
  },
  { $id: "Descriptor", ...CLOSED },
);

const MirrorSchema = Type.Object(
  {
    state: Type.Enum(["on", "failed", "off"], { type: "string" }),
    kernel_id: Type.Optional(Type.Integer({ description: "The kernel's own id of its map." })),
    pinned: Type.Optional(Type.String({ description: "Where on bpffs the kernel's map is pinned." })),
    operation: Type.Optional(Type.String()),
    errno: Type.Optional(Type.String()),
    detail: Type.Optional(Type.String()),
  },
  { $id: "Mirror", ...CLOSED, description: "The kernel map that follows: on; failed, with what was refused; or off, and why." },
);

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
    frozen: Type.Boolean(),
    entries: Type.Integer({ description: "Elements present." }),
    holds: Type.Integer({ description: "Descriptors, pins and outer maps that hold it; at none it is freed." }),
    pinned: Type.Array(Type.String()),
    mirror: Type.Ref("Mirror"),
  },
  { $id: "Map", ...CLOSED },
);

export const PinSchema = Type.Object({ pathname: Type.String(), map_id: Type.Integer() }, { $id: "Pin", ...CLOSED });

export const Path = Type.Object({ pathname: Type.String(), seq: seq() }, { $id: "Path", ...CLOSED });

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
    out: nullable("object", { additionalProperties: true, description: "What else was answered." }),
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
    Type.Integer({ minimum: 1, maximum: most, default: Math.min(most, fallback), description: "Most items of the page." }),
  );

/** Where a list of things with numbers goes on. */
export const after = Type.Optional(Type.Integer({ minimum: 0, default: 0, description: "The last page's `next`." }));

// Bodies and answers, as the document and the serializer take them.

interface Answer {
  readonly description: string;
  readonly headers?: Record<string, TSchema>;
  readonly content?: Record<string, { schema: TSchema; example: unknown }>;
}

const SEQ_HEADER = { "mapledger-seq": Type.Integer({ description: "Seq of the event that tells of the command." }) };

/** An answer in JSON that ran a command: its seq stands in a header, too. */
export function ran(description: string, schema: TSchema, example: unknown): Answer {
  return { ...told(description, schema, example), headers: SEQ_HEADER };
}

/** An answer in JSON that ran none. */
export function told(description: string, schema: TSchema, example: unknown): Answer {
  return { description, content: { "application/json": { schema, example } } };
}

/** Lines of JSON, each an item of the schema. */
export function lines(schema: TSchema, example: string): { schema: TSchema; example: string } {
  return { schema: Type.Unsafe({ type: "string", "x-ndjson-item": schema }), example };
}

export const octets = { schema: Type.Unsafe({ type: "string", format: "binary" }), example: "*\u0000\u0000\u0000" };

/** A body in JSON. What codec/body.ts reads itself, the validator lets pass: see `handRead`. */
export function body(schema: TSchema, example: unknown): TSchema {
  return { ...schema, examples: [example] } as TSchema;
}

/** Every operation may be answered so. */
const ALWAYS = ["unauthorized", "foreign-page", "bug", "unavailable", "invalid-input"] as const;
/** Every command may, besides. */
const COMMAND = ["busy", "log-failed", "disk-full"] as const;
const IN_SESSION = ["no-such-session", "session-ended", "session-foreign"] as const;
const WITH_BODY = ["body-too-large", "unsupported-media-type"] as const;

type Name = ProblemName | Errno;

/** The problems that an operation may answer with, by what it is, and the errnos of its own. */
export function problems(
  is: { readonly command?: true; readonly session?: true; readonly body?: true; readonly path?: true },
  ...more: readonly Name[]
): Record<number, Answer> {
  const names: readonly Name[] = [
    ...ALWAYS,
    ...(is.command ? COMMAND : []),
    ...(is.session ? IN_SESSION : []),
    ...(is.body ? WITH_BODY : []),
    ...more,
  ];
  const byStatus = new Map<number, Record<string, { value: ProblemDocument }>>();
  for (const name of names) {
    const value = problemDocument(name, ...exampleOf(name));
    const examples = byStatus.get(value.status) ?? {};
    examples[name] = { value };
    byStatus.set(value.status, examples);
  }
  const answers: Record<number, Answer> = {};
  for (const [status, examples] of [...byStatus].sort(([a], [b]) => a - b)) {
    const titles = Object.values(examples).map(({ value }) => value.title);
    answers[status] = {
      description: `${[...new Set(titles)].join("; ")}.`,
      content: { "application/problem+json": { schema: Type.Ref("Problem"), examples } as never },
    };
  }
  return answers;
}

/** What an example of a problem says. */
function exampleOf(name: Name): [detail: string, extras: ProblemExtras] {
  if (Object.hasOwn(ERRNO, name)) return [EXAMPLES[name] ?? "the rule that was broken, and the numbers", { errno: name, seq: 17 }];
  return [EXAMPLES[name] ?? "what was found", {}];
}

const EXAMPLES: Partial<Record<Name, string>> = {
  "invalid-input": 'key: hex digits are needed, found "x" at 2',
  unauthorized: "the request has no bearer token",
  "foreign-page": "the request comes from a page of http://example.org",
  "session-foreign": "session 7 is another caller's",
  "no-such-session": "there is no session 7",
  "no-such-event": "there is no event 1000: the log ends at 999",
  "session-ended": "session 7 has ended",
  "body-too-large": "the body is larger than 67108864 bytes",
  "unsupported-media-type": "text/plain is not taken here",
  bug: "the service failed; its log tells more",
  busy: "10000 commands with 1234567 bytes are waiting",
  unavailable: "recovering: 10000 of 20000 events",
  "log-failed": "the log could not be written; nothing was changed",
  "disk-full": "the log's disk is full; nothing was changed",
  ENOENT: "no element has this key",
  EEXIST: "BPF_NOEXIST, but an element has this key",
  E2BIG: "map is full: 1024 of 1024 entries",
  EFAULT: "key has 2 bytes: 4 are read",
  EINVAL: "key has 5 bytes: this map's keys have 4",
  EBADF: "fd 9 is not open in session 7",
  EPERM: "the map is frozen",
  EMFILE: "the session's descriptor table is full",
  ENOSPC: "count is 1: the bucket has 3 elements",
  EOPNOTSUPP: "a trie has no such command",
  ENOTSUPP: "an array has no such command",
  ENOMEM: "the map takes 1099511627776 bytes: the machine has 8589934592",
  EBUSY: "the map is in use",
};

// The syscall door, whose attr is a part of union bpf_attr.

const BPF_ATTR_SCALARS = [
  "map_fd", "flags", "count", "elem_flags", "map_type", "key_size", "value_size", "max_entries", "map_flags",
  "inner_map_fd", "numa_node", "map_ifindex", "btf_fd", "btf_key_type_id", "btf_value_type_id",
  "btf_vmlinux_value_type_id", "map_extra", "value_type_btf_obj_fd", "map_token_fd", "excl_prog_hash_size", "bpf_fd",
  "file_flags", "path_fd", "start_id", "map_id", "next_id", "open_flags", "info_len",
] as const;
const BPF_ATTR_POINTERS = [
  "key", "value", "next_key", "keys", "values", "in_batch", "out_batch", "info", "excl_prog_hash",
] as const;
const BPF_ATTR_TEXTS = ["map_name", "pathname"] as const;

const optional = (names: readonly string[], schema: () => TSchema): Record<string, TSchema> =>
  Object.fromEntries(names.map((name) => [name, Type.Optional(schema())]));

export const DoorRequestSchema = Type.Object(
  {
    cmd: Type.Union([Type.String(), Type.Integer()], { description: "A name of enum bpf_cmd, or its number." }),
    attr: Type.Optional(
      Type.Object(
        {
          ...optional(BPF_ATTR_SCALARS, scalar),
          ...optional(BPF_ATTR_POINTERS, () => nullableHex()),
          ...optional(BPF_ATTR_TEXTS, () => nullable("string")),
        },
        { ...CLOSED, description: "The command's own fields of union bpf_attr; others are 400. Left out: zero, or NULL." },
      ),
    ),
  },
  { ...CLOSED },
);

export const DoorAnswerSchema = Type.Object(
  {
    ret: Type.Integer({ description: "What bpf(2) returns: -1, 0, or a descriptor." }),
    errno: nullable("string"),
    seq: seq(),
    attr: Type.Object(
      {
        ...optional(["value", "next_key", "keys", "values", "out_batch", "info", "hash"], hex),
        ...optional(["next_id", "count", "info_len"], () => Type.Integer()),
      },
      { ...CLOSED, description: "What the kernel would have written." },
    ),
    detail: Type.Optional(Type.String({ description: "The rule that chose the errno." })),
  },
  { $id: "DoorAnswer", ...CLOSED },
);

export const CreateSchema = Type.Object(
  {
    ...optional(
      BPF_ATTR_SCALARS.slice(BPF_ATTR_SCALARS.indexOf("map_type"), BPF_ATTR_SCALARS.indexOf("bpf_fd")),
      scalar,
    ),
    map_name: Type.Optional(nullable("string", { description: "At most 15 bytes: letters, digits, _ and a dot." })),
    excl_prog_hash: Type.Optional(nullableHex()),
  },
  { ...CLOSED, description: "BPF_MAP_CREATE's fields of union bpf_attr. Left out: zero." },
);

/** The names that scalars take, and the document lists. */
export const CONSTANTS = { ...BPF_MAP_TYPE, ...BPF_F, ...BPF_ELEM };
export const COMMANDS = Object.keys(CMD);
