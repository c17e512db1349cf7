import type { FastifyReply } from "fastify";
import { Type } from "typebox";
import { ERRNO } from "../../abi/errno.ts";
import { CMD } from "../../abi/service.ts";
import { readDeleteBatchBody, readLookupBatchBody, readUpdateBatchBody } from "../../codec/body.ts";
import type { Request } from "../../engine/request.ts";
import { body, problems, ran } from "../schemas/answers.ts";
import { CLOSED, ElementLines, hex, nullable, nullableHex, scalar, seq } from "../schemas/fields.ts";
import { takeElementLines } from "../server/bodies.ts";
import { type Bulk, sendElements } from "../server/bulk.ts";
import { type CommandParts, type Ran, run } from "../server/commands.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import { NDJSON } from "../server/negotiation.ts";
import { refused } from "../server/problems.ts";
import { bodyByHand } from "../server/validation.ts";
import { originOf, VIEWS, type View } from "../views/targets.ts";

const COUNT_DEFAULT = 1000;

type BatchParts = CommandParts & Bulk;

/** The four batch commands, by descriptor and by map. A request is one command, however many elements it has. */
export async function batchRoutes(app: App, options: RouteOptions<BatchParts>): Promise<void> {
  takeElementLines(app, options.parts);
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
    summary: "Take out many elements",
    description: "BPF_MAP_LOOKUP_AND_DELETE_BATCH.",
  },
} as const;

function readBatch(app: App, view: View, { parts }: RouteOptions<BatchParts>, name: keyof typeof READS): void {
  const { cmd, operationId, summary, description } = READS[name];
  app.post(`${view.prefix}/batch/${name}`, {
    schema: {
      operationId: operationId + view.suffix,
      summary,
      description: `${description} The batch begins at the start of the map, or at \`in_batch\`, which is \`out_batch\` of an earlier answer. A hash is read in whole buckets. A batch ends after 16 MiB, even with fewer elements than \`count\`.`,
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
        200: ran("The elements that were read, and the place where the next batch begins.", Type.Ref("Batch"), {
          elements: [{ key: "01000000", value: "2a000000" }],
          count: 1,
          out_batch: "00020000",
          end: true,
          seq: 17,
        }),
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
      return sendElements(parts, reply, outcome, { count: out.count ?? 0, out_batch: out.out_batch ?? null, end, seq });
    },
  });
}

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
      description: `BPF_MAP_UPDATE_BATCH. ${ONE_BY_ONE} The body may be a page of elements, its lines, or the answer of a batch that read: \`count\` must be right, and other fields are ignored. Lines have Content-Type: application/x-ndjson.`,
      tags: [view.tag],
      params: view.params,
      body: {
        content: {
          "application/json": {
            schema: body(ElementList, { elements: [{ key: "01000000", value: "2a000000" }] }),
          },
          [NDJSON]: { schema: body(ElementLines, ELEMENT_LINE) },
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
      const { count, keys, values, elemFlags } = readUpdateBatchBody(request.body);
      const origin = originOf(request);
      const attr = { count, elemFlags, inBatch: null, outBatch: null };
      const command = {
        cmd: CMD.BPF_MAP_UPDATE_BATCH,
        ...origin,
        key: keys,
        value: values,
        flags: 0n,
        exact: true,
        attr,
      };
      return batchDone(parts, reply, command, count);
    },
  });
}

function deleteBatch(app: App, view: View, { parts }: RouteOptions<BatchParts>): void {
  app.post(`${view.prefix}/batch/delete`, {
    schema: {
      operationId: `deleteBatch${view.suffix}`,
      summary: "Delete many elements",
      description: `BPF_MAP_DELETE_BATCH. ${ONE_BY_ONE} A key without an element is refused (ENOENT). With \`if_present\` such keys are skipped: the event has only the keys that had an element, and \`attr.if_present\` is the number of given keys.`,
      tags: [view.tag],
      params: view.params,
      body: body(
        Type.Object(
          {
            keys: Type.Array(hex()),
            elem_flags: Type.Optional(scalar()),
            if_present: Type.Optional(Type.Boolean({ default: false, description: "Skip keys without an element." })),
          },
          { $id: "DeleteBatchBody", ...CLOSED },
        ),
        { keys: ["01000000", "02000000"] },
      ),
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
      const { count, keys, elemFlags, ifPresent } = readDeleteBatchBody(request.body);
      const origin = originOf(request);
      const attr = { count, elemFlags, inBatch: null, outBatch: null, ...(ifPresent && { ifPresent: count }) };
      const command = {
        cmd: CMD.BPF_MAP_DELETE_BATCH,
        ...origin,
        key: keys,
        value: null,
        flags: 0n,
        exact: true,
        attr,
      };
      const { count: deleted, seq } = await batchDone(parts, reply, command, count);
      return { count: deleted, absent: count - deleted, seq };
    },
  });
}

const ONE_BY_ONE =
  "Elements are processed one after the other. The first that is refused ends the batch, and `count` says how many were done.";

/** Runs a batch; resolves to the number of elements done. The Problem of a refused batch has that number, too. */
async function batchDone(
  parts: BatchParts,
  reply: FastifyReply,
  command: Request,
  given: number,
): Promise<{ count: number; seq: number }> {
  const { outcome, seq }: Ran = await run(parts, reply, command);
  if (outcome.errno === 0) return { count: outcome.out?.count ?? given, seq };
  // If the kernel refuses the batch as a whole, it leaves `count` as given, although nothing was done.
  const done = outcome.out?.count ?? 0;
  throw refused(command, outcome, seq, done < given ? done : 0);
}
