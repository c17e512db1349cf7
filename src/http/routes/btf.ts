/** BTF: what was loaded, and the kernel's own, as JSON, C or raw; and the types of a map's keys and values. */

import { Btf } from "../../btf/btf.ts";
import { cOf, cOfNamed } from "../../btf/c.ts";
import { jsonOf, jsonOfReached } from "../../btf/json.ts";
import { joined } from "../../btf/split.ts";
import { InvalidInput } from "../../codec/invalid.ts";
import type { Settings } from "../../config.ts";
import { asBuffer } from "../../log/row_transfer.ts";
import { isRefusal, type Refusal } from "../../maps/refusal.ts";
import { octets, problems, told } from "../schemas/answers.ts";
import { BtfDump, BtfPage, CText, MapTypesDump } from "../schemas/btf.ts";
import { afterName, LIST_MAX, limit, MapParams } from "../schemas/fields.ts";
import { Type } from "../schemas/type.ts";
import { type Bulk, sendPieces } from "../server/bulk.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import { OCTETS, wants } from "../server/negotiation.ts";
import type { KernelBtf } from "../server/ports.ts";
import { Problem } from "../server/problems.ts";
import { AS_OF, at, type StateParts, stateOf } from "../views/as_of.ts";
import { askTypes } from "../views/lookups.ts";
import { paced, withItems } from "../views/paced.ts";
import { readReference } from "../views/targets.ts";

const TAGS = ["types"];
const PAGE_DEFAULT = 100;
const C_TYPE = "text/x-c";
const FORMATS = ["json", "c", "raw"] as const;
type Format = (typeof FORMATS)[number];
const MEDIA: Readonly<Record<Format, string>> = { json: "application/json", c: C_TYPE, raw: OCTETS };

interface BtfParts extends StateParts, Bulk {
  readonly kernelBtf: KernelBtf | null;
  readonly settings: Pick<Settings, "pageElementsMax">;
}

export async function btfRoutes(app: App, options: RouteOptions<BtfParts>): Promise<void> {
  listBtf(app, options);
  getBtf(app, options);
  getMapTypes(app, options);
}

function listBtf(app: App, { parts }: RouteOptions<BtfParts>): void {
  app.get("/btf", {
    schema: {
      operationId: "listBtf",
      summary: "List BTF",
      description:
        "BTF that BPF_BTF_LOAD has loaded, by id, as long as a map or a descriptor holds it; then the kernel's own, by name. The " +
        "kernel's is not in the log: with `at` it is left out. A page may have less than `limit` items although `next` is not null, " +
        "if its BTF is large.",
      tags: TAGS,
      querystring: Type.Object({
        after: afterName("17"),
        limit: limit(parts.settings.pageElementsMax, PAGE_DEFAULT),
        at,
      }),
      response: {
        200: told("A page of BTF, without its types.", BtfPage, {
          btf: [{ id: 1, name: null, size: 45, kernel: false }],
          next: null,
        }),
        ...problems({}, ...AS_OF),
      },
    },
    handler: async (request, reply) => {
      const { after } = request.query;
      const most = Math.min(request.query.limit, LIST_MAX);
      const isName = after !== "" && !isId(after);
      const loaded = isName
        ? { btfs: [], more: false }
        : await stateOf(parts, request, reply).query("btfs", { after: Number(after), limit: most });
      const btf = loaded.btfs.map(({ id, bytes }) => btfJson(id, null, bytes));
      if (loaded.more) return { btf, next: String(loaded.btfs.at(-1)?.id ?? after) };
      const kernels = request.query.at === undefined ? ((await parts.kernelBtf?.list()) ?? []) : [];
      const rest = kernels.filter(({ name }) => !isName || name > after);
      const shown = rest.slice(0, most - btf.length);
      btf.push(...shown.map(({ name, bytes }) => btfJson(null, name, bytes)));
      const last = shown.at(-1)?.name ?? loaded.btfs.at(-1)?.id ?? after;
      return { btf, next: shown.length < rest.length ? String(last) : null };
    },
  });
}

function btfJson(id: number | null, name: string | null, bytes: number) {
  return { id, name, size: bytes, kernel: id === null };
}

const format = Type.Optional(
  Type.Enum([...FORMATS], {
    type: "string",
    description:
      "The form of the answer, in place of Accept: JSON, C (text/x-c), or the BTF itself (application/octet-stream).",
  }),
);

const C_EXAMPLE = "struct stats {\n\tu64 packets;\n\tu64 bytes;\n};\n\n";

const others = {
  [C_TYPE]: { schema: CText, example: C_EXAMPLE },
  [OCTETS]: octets,
};

function getBtf(app: App, { parts }: RouteOptions<BtfParts>): void {
  app.get("/btf/:btf", {
    schema: {
      operationId: "getBtf",
      summary: "Get the types of BTF",
      description:
        "As JSON, its types as `bpftool -j btf dump` has them; constants beyond 2^53 have their digits beside them, and those of unsigned " +
        "enumerations are never negative. As C, definitions whose sizes and offsets are those of the BTF for compilers with a long of " +
        "64 bits; names that C cannot have are changed, and one that is taken gets a suffix such as ___2. A module's BTF has only " +
        "the types that vmlinux does not have; its C has all that they need.",
      tags: TAGS,
      params: Type.Object({
        btf: Type.String({
          description: "An id; or the name of the kernel's own: vmlinux, or a module.",
          examples: ["1"],
        }),
      }),
      querystring: Type.Object({ format, at }),
      response: {
        200: withOthers("The types of the BTF, each with the fields that its kind has.", BtfDump, {
          id: 1,
          name: null,
          kernel: false,
          size: 45,
          types: [{ id: 1, kind: "INT", name: "u32", size: 4, bits_offset: 0, nr_bits: 32, encoding: "(none)" }],
        }),
        ...problems({}, "ENOENT", ...AS_OF),
      },
    },
    handler: async (request, reply) => {
      const { params, query, headers } = request;
      const asked = formatOf(query.format, headers);
      const { id, name, data, base } = isId(params.btf)
        ? await loadedBtf(stateOf(parts, request, reply), Number(params.btf))
        : await kernels(parts, params.btf, query.at);
      parts.flight.loadOf(reply.raw).take(data.length + (base?.length ?? 0));
      if (asked === "raw") return reply.type(OCTETS).send(data);
      const whole = base === null ? data : mustBe(joined(base, data));
      const btf = mustBe(Btf.parse(whole));
      const first = base === null ? 1 : mustBe(Btf.parse(base)).count;
      if (asked === "c") return sendPaced(parts, reply, C_TYPE, cOf(btf, { first, isKernel: id === null }));
      const head = JSON.stringify({ ...btfJson(id, name, data.length), types: [] });
      return sendPaced(parts, reply, MEDIA.json, withItems(head, jsonOf(btf, first)));
    },
  });
}

function getMapTypes(app: App, { parts }: RouteOptions<BtfParts>): void {
  app.get("/maps/:map/types", {
    schema: {
      operationId: "getMapTypes",
      summary: "Get the types of a map's keys and values",
      description:
        "From the BTF with which the map was created. As JSON, those of its types that keys and values need; as C, their " +
        "definitions, and typedefs map_key and map_value; raw, the whole BTF.",
      tags: TAGS,
      params: MapParams,
      querystring: Type.Object({ format, at }),
      response: {
        200: withOthers("The types of keys and values, and those that they need.", MapTypesDump, {
          map: 1,
          btf_id: 1,
          key_type_id: 1,
          value_type_id: 1,
          types: [{ id: 1, kind: "INT", name: "u32", size: 4, bits_offset: 0, nr_bits: 32, encoding: "(none)" }],
        }),
        ...problems({}, "ENOENT", "EINVAL", ...AS_OF),
      },
    },
    handler: async (request, reply) => {
      const { params, query, headers } = request;
      const asked = formatOf(query.format, headers);
      const state = stateOf(parts, request, reply);
      const { map, btf: its } = await askTypes(state, readReference(params.map, "map"), params.map);
      if (its === null)
        throw new Problem("ENOENT", `map ${map} was created without BTF: its types are not known`, { errno: "ENOENT" });
      const data = asBuffer(its.data);
      parts.flight.loadOf(reply.raw).take(data.length);
      if (asked === "raw") {
        if (request.limits !== undefined)
          throw new Problem("scope-missing", "the whole BTF describes other maps, too: read without a glob required");
        return reply.type(OCTETS).send(data);
      }
      const btf = mustBe(Btf.parse(data));
      const { btfId, keyTypeId, valueTypeId } = its;
      if (asked === "c")
        return sendPaced(parts, reply, C_TYPE, cOfNamed(btf, { map_key: keyTypeId, map_value: valueTypeId }));
      const said = { map, btf_id: btfId, key_type_id: keyTypeId, value_type_id: valueTypeId, types: [] };
      return sendPaced(
        parts,
        reply,
        MEDIA.json,
        withItems(JSON.stringify(said), jsonOfReached(btf, [keyTypeId, valueTypeId])),
      );
    },
  });
}

/** An answer in JSON, C or raw. */
function withOthers(description: string, schema: Parameters<typeof told>[1], example: unknown) {
  const json = told(description, schema, example);
  return { ...json, content: { ...json.content, ...others } };
}

function sendPaced(parts: Bulk, reply: Parameters<typeof sendPieces>[1], type: string, pieces: Iterable<string>) {
  return sendPieces(parts, reply, `${type}; charset=utf-8`, paced(pieces, parts.turns));
}

interface Contents {
  /** null: it is the kernel's own. */
  readonly id: number | null;
  readonly name: string | null;
  readonly data: Buffer;
  readonly base: Buffer | null;
}

async function loadedBtf(state: ReturnType<typeof stateOf>, id: number): Promise<Contents> {
  const found = await state.query("btf", { id });
  if (found === null) throw new Problem("ENOENT", `no BTF has id ${id}`, { errno: "ENOENT" });
  return { id, name: null, data: asBuffer(found.data), base: null };
}

async function kernels({ kernelBtf }: BtfParts, name: string, at: string | undefined): Promise<Contents> {
  if (at !== undefined) throw new InvalidInput("at", "the kernel's own BTF is not in the log, and has no past");
  const found = kernelBtf === null ? null : await kernelBtf.read(name);
  if (found === null)
    throw new Problem(
      "ENOENT",
      `an id, or the name of BTF in /sys/kernel/btf required, found ${JSON.stringify(name.slice(0, 64))}`,
      { errno: "ENOENT" },
    );
  return { id: null, name, ...found };
}

function isId(text: string): boolean {
  return /^\d{1,10}$/.test(text);
}

function formatOf(asked: Format | undefined, headers: Parameters<typeof wants>[0]): Format {
  if (asked !== undefined) return asked;
  if (wants(headers, C_TYPE)) return "c";
  return wants(headers, OCTETS) ? "raw" : "json";
}

/** BTF that a kernel or the ledger has taken can be read. */
function mustBe<Found extends object>(found: Found | Refusal): Found {
  if (isRefusal(found)) throw new Error(`reading BTF: ${found.detail}`);
  return found as Found;
}
