import type { FastifyReply } from "fastify";
import { ERRNO } from "../../abi/errno.ts";
import { CMD } from "../../abi/service.ts";
import { readDeleteBatchBody, readLookupBatchBody, readUpdateBatchBody } from "../../codec/body.ts";
import { InvalidInput } from "../../codec/invalid.ts";
import { u64 } from "../../codec/scalars.ts";
import type { Request } from "../../engine/request.ts";
import type { BatchCommand } from "../../syscall/command.ts";
import { body, octets, problems, ran } from "../schemas/answers.ts";
import { CLOSED, ElementLines, hex, nullable, nullableHex, OctetsSchema, scalar, seq } from "../schemas/fields.ts";
import { Type } from "../schemas/type.ts";
import { takeElementLines, takeOctets } from "../server/bodies.ts";
import { type Bulk, sendElementOctets, sendElements } from "../server/bulk.ts";
import { type CommandParts, type Ran, run } from "../server/commands.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import { NDJSON, OCTETS, wants } from "../server/negotiation.ts";
import { refused } from "../server/problems.ts";
import { bodyByHand } from "../server/validation.ts";
import { originOf, VIEWS, type View } from "../views/targets.ts";

const COUNT_DEFAULT = 1000;

type BatchParts = CommandParts & Bulk;

/** The four batch commands, by descriptor and by map. A request is one command, however many elements it has. */
export async function batchRoutes(app: App, options: RouteOptions<BatchParts>): Promise<void> {
  takeElementLines(app, options.parts);
  takeOctets(app, options.parts);
  for (const view of VIEWS) {
    readBatch(app, view, options, "lookup");
    readBatch(app, view, options, "lookup_and_delete");
    updateBatch(app, view, options);
    deleteBatch(app, view, options);
  }
}

const READS = {
  lookup: {
    cmd: CMD.BPF_MAP_LOOKUP_BATCH,
    operationId: "lookupBatch",
    summary: "Look up many elements",
    description: "BPF_MAP_LOOKUP_BATCH.",
  },
  lookup_and_delete: {
    cmd: CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH,
    operationId: "lookupAndDeleteBatch",
    summary: "Look up and delete many elements",
    description: "BPF_MAP_LOOKUP_AND_DELETE_BATCH.",
  },
} as const;

function readBatch(app: App, view: View, { parts }: RouteOptions<BatchParts>, name: keyof typeof READS): void {
  const { cmd, operationId, summary, description } = READS[name];
  app.post(`${view.prefix}/batch/${name}`, {
    schema: {
      operationId: operationId + view.suffix,
      summary,
      description: `${description} The batch begins at the start of the map, or at \`in_batch\`, which is \`out_batch\` of an earlier answer. A hash is read in whole buckets. A batch ends after 16 MiB, even with fewer elements than \`count\`. With Accept: application/octet-stream the body is all keys end to end, then all values, as an update takes them; the other fields are headers.`,
      tags: [view.tag],
      params: view.params,
      "x-body-optional": true,
      body: body(
        Type.Object(
          {
            count: Type.Optional(scalar()),
            in_batch: Type.Optional(nullable("string")),
            elem_flags: Type.Optional(scalar()),
          },
          {
            $id: "LookupBatchBody",
            ...CLOSED,
            description: `\`count\` is the maximum number of elements; the default is ${COUNT_DEFAULT}.`,
          },
        ),
        { count: 1000, in_batch: null },
      ),
      response: {
        200: withOctets(
          ran("The elements that were read, and the place where the next batch begins.", Type.Ref("Batch"), {
            elements: [{ key: "01000000", value: "2a000000" }],
            count: 1,
            out_batch: "00020000",
            end: true,
            seq: 17,
          }),
        ),
        ...problems({ ...view.is, body: true }, ...view.errnos, "ENOENT", "EFAULT", "ENOSPC", "EOPNOTSUPP", "ENOTSUPP"),
      },
    },
    validatorCompiler: bodyByHand,
    handler: async (request, reply) => {
      const { count, inBatch, elemFlags } = readLookupBatchBody(request.body, COUNT_DEFAULT);
      const attr = { count, elemFlags, inBatch, outBatch: null };
      const command = { cmd, ...originOf(request), key: null, value: null, flags: 0n, exact: true, attr };
      const { outcome, seq } = await run(parts, reply, command);
      // ENOENT with values: the end of the map. ENOENT without: there is no such map or no such position.
      const end = outcome.errno === ERRNO.ENOENT && outcome.value !== null;
      if (outcome.errno !== 0 && !end) throw refused(command, outcome, seq);
      const out = outcome.out ?? {};
      const { count: read = 0, out_batch = null, ids } = out;
      if (!wants(request.headers, OCTETS))
        return sendElements(parts, reply, outcome, { count: read, out_batch, end, seq });
      reply.header("mapledger-count", String(read)).header("mapledger-end", String(end));
      if (out_batch !== null) reply.header("mapledger-out-batch", out_batch);
      if (ids === true) reply.header("mapledger-shows", "ids");
      return sendElementOctets(reply, outcome);
    },
  });
}

/** The headers of a batch that was read, if its elements are octets. */
const BATCH_HEADERS = {
  "mapledger-count": Type.Integer({ description: "With octets: how many elements were read." }),
  "mapledger-end": Type.Boolean({ description: "With octets: the map ended here." }),
  "mapledger-out-batch": Type.String({ description: "With octets: the next call's `in_batch`." }),
  "mapledger-shows": Type.Enum(["ids"], {
    type: "string",
    description: "With octets: values or keys show ids of objects, where an update takes descriptors.",
  }),
};

function withOctets(answer: ReturnType<typeof ran>): ReturnType<typeof ran> {
  const headers = { ...answer.headers, ...BATCH_HEADERS };
  return { ...answer, headers, content: { ...answer.content, [OCTETS]: octets } };
}

const ELEM_FLAGS = Type.Optional(
  Type.String({
    description: "The flags of each element, if the body is octets or lines; a body of JSON has them itself.",
    examples: ["BPF_F_LOCK"],
  }),
);

const AS_OCTETS = "A body with Content-Type: application/octet-stream is";

const ELEMENT_LINE = '{"key":"01000000","value":"2a000000"}\n';

const ElementList = Type.Object(
  {
    elements: Type.Array(Type.Ref("MapElement")),
    elem_flags: Type.Optional(scalar()),
    count: Type.Optional(Type.Integer({ description: "The number of `elements`." })),
    next: Type.Optional(nullableHex()),
    out_batch: Type.Optional(nullableHex()),
    end: Type.Optional(Type.Boolean()),
    seq: Type.Optional(seq()),
  },
  { $id: "UpdateBatchBody", ...CLOSED },
);

function updateBatch(app: App, view: View, { parts }: RouteOptions<BatchParts>): void {
  app.post(`${view.prefix}/batch/update`, {
    schema: {
      operationId: `updateBatch${view.suffix}`,
      summary: "Write many elements",
      description: `BPF_MAP_UPDATE_BATCH. ${ONE_BY_ONE} The body may be a page of elements, lines of elements, or the answer of a batch lookup: \`count\` must be the number of elements, and other fields are ignored. Lines have Content-Type: application/x-ndjson. ${AS_OCTETS} all keys end to end, then all values; a value of a per-CPU map has a slot for each CPU, whose size is value_size rounded up to a multiple of 8.`,
      tags: [view.tag],
      params: view.params,
      querystring: Type.Object({ elem_flags: ELEM_FLAGS }),
      body: {
        content: {
          "application/json": {
            schema: body(ElementList, { elements: [{ key: "01000000", value: "2a000000" }] }),
          },
          [NDJSON]: { schema: body(ElementLines, ELEMENT_LINE) },
          [OCTETS]: { schema: body(OctetsSchema, octets.example) },
        },
      },
      response: {
        200: ran("The number of elements written, which is all of them.", Type.Ref("BatchDone"), { count: 1, seq: 17 }),
        ...problems(
          { ...view.is, body: true },
          ...view.errnos,
          "ENOENT",
          "EFAULT",
          "EEXIST",
          "E2BIG",
          "ENOMEM",
          "EBUSY",
          "EOPNOTSUPP",
          "ENOTSUPP",
        ),
      },
    },
    validatorCompiler: bodyByHand,
    handler: async (request, reply) => {
      const given = Buffer.isBuffer(request.body) ? asOctets(request.body) : asElements(request.body);
      const attr = { ...given.attr, elemFlags: elemFlagsOf(request.query, given.attr.elemFlags) };
      const command = { cmd: CMD.BPF_MAP_UPDATE_BATCH, ...originOf(request), ...WRITES, ...given, attr };
      const { count, seq } = await batchDone(parts, reply, command);
      return { count, seq };
    },
  });
}

const KeyList = Type.Object(
  {
    keys: Type.Array(hex()),
    elem_flags: Type.Optional(scalar()),
    if_present: Type.Optional(Type.Boolean({ default: false, description: "Skip keys without an element." })),
  },
  { $id: "DeleteBatchBody", ...CLOSED },
);

function deleteBatch(app: App, view: View, { parts }: RouteOptions<BatchParts>): void {
  app.post(`${view.prefix}/batch/delete`, {
    schema: {
      operationId: `deleteBatch${view.suffix}`,
      summary: "Delete many elements",
      description: `BPF_MAP_DELETE_BATCH. ${ONE_BY_ONE} A key without an element is refused (ENOENT). With \`if_present\` such keys are skipped: the event has only the keys that had an element, and \`attr.if_present\` is the number of given keys. ${AS_OCTETS} all keys end to end.`,
      tags: [view.tag],
      params: view.params,
      querystring: Type.Object({
        elem_flags: ELEM_FLAGS,
        if_present: Type.Optional(
          Type.Boolean({
            description: "Skip keys without an element, if the body is octets; a body of JSON has the field itself.",
          }),
        ),
      }),
      body: {
        content: {
          "application/json": { schema: body(KeyList, { keys: ["01000000", "02000000"] }) },
          [OCTETS]: { schema: body(OctetsSchema, octets.example) },
        },
      },
      response: {
        200: ran("How many elements were deleted, and how many keys had no element.", Type.Ref("DeleteBatchDone"), {
          count: 2,
          absent: 0,
          seq: 17,
        }),
        ...problems({ ...view.is, body: true }, ...view.errnos, "ENOENT", "EFAULT", "EBUSY", "EOPNOTSUPP", "ENOTSUPP"),
      },
    },
    validatorCompiler: bodyByHand,
    handler: async (request, reply) => {
      const { query } = request;
      const given = Buffer.isBuffer(request.body) ? asOctets(request.body) : asKeys(request.body);
      if (query.if_present !== undefined && !("octets" in given))
        throw new InvalidInput("if_present", "allowed in the query only if the body is octets");
      const ifPresent = query.if_present === true ? { ifPresent: 0 } : {};
      const attr = { ...ifPresent, ...given.attr, elemFlags: elemFlagsOf(query, given.attr.elemFlags) };
      const command = { cmd: CMD.BPF_MAP_DELETE_BATCH, ...originOf(request), ...WRITES, ...given, attr };
      const { count, given: all, seq } = await batchDone(parts, reply, command);
      return { count, absent: all - count, seq };
    },
  });
}

const ONE_BY_ONE =
  "Elements are processed one after the other. The first that is refused ends the batch, and `count` says how many were done.";

const WRITES = { flags: 0n, exact: true } as const;

/** The elements of an update in JSON or lines. */
function asElements(body: unknown) {
  const { count, keys, values, elemFlags } = readUpdateBatchBody(body);
  return { key: keys, value: values, attr: { count, elemFlags, inBatch: null, outBatch: null } };
}

/** The keys of a deletion in JSON. */
function asKeys(body: unknown) {
  const { count, keys, elemFlags, ifPresent } = readDeleteBatchBody(body);
  const attr = { count, elemFlags, inBatch: null, outBatch: null, ...(ifPresent && { ifPresent: count }) };
  return { key: keys, value: null, attr };
}

/** Elements or keys end to end: the engine divides the body by the map's sizes, and counts (`engine/octets.ts`). */
function asOctets(value: Buffer) {
  const attr = { count: 0, elemFlags: 0n, inBatch: null, outBatch: null };
  return { key: null, value, octets: true, attr } as const;
}

/** The elem_flags of a query and of a body: only one of them may have any. */
function elemFlagsOf({ elem_flags: asked }: { readonly elem_flags?: string }, given: bigint): bigint {
  if (asked === undefined) return given;
  if (given !== 0n) throw new InvalidInput("elem_flags", "allowed in the query or in the body, not in both");
  return u64(asked, "elem_flags");
}

/**
 * Runs a batch; resolves to the number of elements done, and of those given. The Problem of a refused batch has the
 * number done, too.
 */
async function batchDone(
  parts: BatchParts,
  reply: FastifyReply,
  command: Request & BatchCommand,
): Promise<{ count: number; given: number; seq: number }> {
  const { outcome, seq, given = command.attr.count }: Ran = await run(parts, reply, command);
  if (outcome.errno === 0) return { count: outcome.out?.count ?? given, given, seq };
  // If the kernel refuses the batch as a whole, it leaves `count` as given, although nothing was done.
  const done = outcome.out?.count ?? 0;
  throw refused(command, outcome, seq, done < given ? done : 0);
}
