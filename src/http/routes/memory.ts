import { CMD } from "../../abi/service.ts";
import { InvalidInput } from "../../codec/invalid.ts";
import type { Settings } from "../../config.ts";
import { body, octets, problems, ran } from "../schemas/answers.ts";
import { Type } from "../schemas/type.ts";
import { takeOctets } from "../server/bodies.ts";
import type { Bulk } from "../server/bulk.ts";
import { must } from "../server/commands.ts";
import type { Flight } from "../server/flight.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import { OCTETS } from "../server/negotiation.ts";
import { Problem, refused } from "../server/problems.ts";
import { bodyByHand } from "../server/validation.ts";
import { AS_OF, AtQuery, type ReadParts, read } from "../views/as_of.ts";
import { originOf, VIEWS, type View } from "../views/targets.ts";

/** The most bytes that one request reads or stores: to copy more would delay others. Ranges reach the rest. */
const BYTES_MAX = 16 * 1024 * 1024;

const RANGE = /^bytes=(?:(\d{1,15})-(\d{1,15})?|-(\d{1,15}))$/;
const CONTENT_RANGE = /^bytes (\d{1,15})-(\d{1,15})\/(?:\d{1,15}|\*)$/;

interface MemoryParts extends ReadParts, Bulk {
  readonly flight: Flight;
  readonly settings: Pick<Settings, "bodyBytesMax">;
}

/** The memory of a BPF_F_MMAPABLE array, as mmap(2) would show it, by descriptor and by map. */
export async function memoryRoutes(app: App, options: RouteOptions<MemoryParts>): Promise<void> {
  takeOctets(app, options.parts);
  for (const view of VIEWS) {
    readMemory(app, view, options);
    writeMemory(app, view, options);
  }
}

const ERRNOS = ["EACCES", "ENOTSUPP"] as const;

function readMemory(app: App, view: View, { parts }: RouteOptions<MemoryParts>): void {
  app.get(`${view.prefix}/memory`, {
    schema: {
      operationId: `readMemory${view.suffix}`,
      summary: "Read a map's memory",
      description:
        "The bytes that a shared mapping of a BPF_F_MMAPABLE array shows: each value rounded up to 8 bytes, the whole rounded up to " +
        "pages. With Range: bytes=FIRST-LAST a part of them. An answer has at most 16 MiB: if the memory has more, the status is 206, " +
        "and Content-Range names the part.",
      tags: [view.tag],
      params: view.params,
      querystring: AtQuery,
      headers: Type.Object({ range: Type.Optional(Type.String({ examples: ["bytes=0-4095"] })) }),
      response: {
        200: octetsOf("All bytes of the memory."),
        206: octetsOf("The part of the memory that Content-Range names."),
        ...problems(view.is, ...view.errnos, ...ERRNOS, "range-not-satisfiable", ...AS_OF),
      },
    },
    handler: async (request, reply) => {
      const { range } = request.headers;
      const { offset, length } = readRange(range);
      const attr = { offset, length: Math.min(length, BYTES_MAX) };
      const command = { cmd: CMD.MEMORY_READ, ...originOf(request), value: null, attr };
      const { outcome, seq } = await read(parts, request, reply, command);
      const { memory } = outcome.out ?? {};
      const bytes = outcome.value;
      if (memory !== undefined && range !== undefined && (bytes === null || bytes.length === 0))
        throw outside(range, memory);
      if (bytes === null || memory === undefined) throw refused(command, outcome, seq);
      reply.header("accept-ranges", "bytes").type(OCTETS);
      if (bytes.length < memory) {
        const first = offset < 0 ? memory - bytes.length : offset;
        reply.code(206).header("content-range", `bytes ${first}-${first + bytes.length - 1}/${memory}`);
      }
      return reply.send(bytes);
    },
  });
}

function writeMemory(app: App, view: View, { parts }: RouteOptions<MemoryParts>): void {
  app.put(`${view.prefix}/memory`, {
    schema: {
      operationId: `writeMemory${view.suffix}`,
      summary: "Store to a map's memory",
      description:
        "A store through a shared mapping of a BPF_F_MMAPABLE array, from the beginning, or at the place that Content-Range: bytes " +
        "FIRST-LAST/* names. At most 16 MiB.",
      tags: [view.tag],
      params: view.params,
      headers: Type.Object({ "content-range": Type.Optional(Type.String({ examples: ["bytes 16-23/*"] })) }),
      body: { content: { [OCTETS]: { schema: body(octets.schema, octets.example) } } },
      response: {
        200: ran("The seq of the event that stored the bytes.", Type.Ref("Done"), { seq: 17 }),
        ...problems({ ...view.is, body: true }, ...view.errnos, ...ERRNOS),
      },
    },
    validatorCompiler: bodyByHand,
    bodyLimit: Math.min(BYTES_MAX, parts.settings.bodyBytesMax),
    handler: async (request, reply) => {
      const value = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
      const offset = readContentRange(request.headers["content-range"], value.length);
      const attr = { offset, length: value.length };
      const command = { cmd: CMD.MEMORY_WRITE, ...originOf(request), value, attr };
      const { seq } = await must(parts, reply, command);
      return { seq };
    },
  });
}

/** A Range of RFC 9110. Several ranges, or one that cannot be read, count as none. A negative offset: from the end. */
function readRange(header: string | undefined): { readonly offset: number; readonly length: number } {
  const found = header === undefined ? null : RANGE.exec(header);
  if (found === null) return { offset: 0, length: BYTES_MAX };
  const [, first, last, suffix] = found;
  if (first === undefined) return { offset: -Number(suffix), length: Number(suffix) };
  const offset = Number(first);
  return { offset, length: last === undefined ? BYTES_MAX : Math.max(Number(last) + 1 - offset, 0) };
}

function outside(range: string, memory: number): Problem {
  const headers = { "content-range": `bytes */${memory}` };
  return new Problem("range-not-satisfiable", `${range}: the memory has ${memory} bytes`, {}, headers);
}

function readContentRange(header: string | undefined, length: number): number {
  if (header === undefined) return 0;
  const found = CONTENT_RANGE.exec(header);
  if (found === null) throw new InvalidInput("content-range", "bytes FIRST-LAST/* required");
  const [first, last] = [Number(found[1]), Number(found[2])];
  if (last - first + 1 === length) return first;
  throw new InvalidInput("content-range", `the range has ${last - first + 1} bytes, the body has ${length}`);
}

function octetsOf(description: string) {
  return { ...ran(description, Type.Ref("Done"), {}), content: { [OCTETS]: octets } };
}
