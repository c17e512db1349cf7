import { test } from "tap";
import { BPF_MAP_TYPE } from "../../../src/abi/bpf.ts";
import type { MapRecord, MapType } from "../../../src/maps/map.ts";
import { mapType } from "../../../src/maps/types.ts";
import { readEventLine } from "../../../src/replay/event_line.ts";
import { DOCUMENT } from "../service.ts";
import { withMap } from "../with_map.ts";

interface Schema {
  readonly type?: string | readonly string[];
  readonly $ref?: string;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly [name: string]: unknown;
}

/** The types of JSON that a schema allows, null apart. */
function kinds(schema: Schema, components: Readonly<Record<string, Schema>>): Set<string> {
  if (schema.$ref !== undefined)
    return kinds(components[schema.$ref.split("/").at(-1) as string] as Schema, components);
  const either = [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])];
  const own = schema.type === undefined ? [] : [schema.type].flat();
  const all = new Set([...own, ...either.flatMap((one) => [...kinds(one, components)])] as string[]);
  all.delete("null");
  return all;
}

test("each field of an answer has one type", async (t) => {
  const { paths, components } = DOCUMENT as unknown as {
    paths: Record<string, Record<string, { operationId: string; responses: object }>>;
    components: { schemas: Record<string, Schema> };
  };
  const seen = new Set<object>();
  const walk = (schema: unknown, where: string): void => {
    if (typeof schema !== "object" || schema === null || seen.has(schema)) return;
    seen.add(schema);
    if (Array.isArray(schema)) {
      for (const [at, one] of schema.entries()) walk(one, `${where}[${at}]`);
      return;
    }
    const { $ref } = schema as Schema;
    if ($ref !== undefined) walk(components.schemas[$ref.split("/").at(-1) as string], $ref);
    if ("properties" in schema)
      for (const [name, field] of Object.entries(schema.properties as Record<string, Schema>))
        t.ok(kinds(field, components.schemas).size <= 1, `${where}.${name}`);
    for (const [name, part] of Object.entries(schema)) if (name !== "example") walk(part, `${where}.${name}`);
  };
  for (const byMethod of Object.values(paths))
    for (const { operationId, responses } of Object.values(byMethod)) walk(responses, operationId);
  t.ok(seen.size > 500);
});

test("an event's flags are digits, whatever they are; exports that have a number are read", async (t) => {
  const { service, session } = await withMap(t, {});
  for (const [given, told] of [
    [0, "0"],
    [1, "1"],
    ["0xffffffffffffffff", "18446744073709551615"],
  ] as const) {
    const attr = { map_fd: 3, key: "01000000", value: "01000000", flags: given };
    const { seq } = (await service.send("POST", `${session}/bpf`, { cmd: "BPF_MAP_UPDATE_ELEM", attr })).json();
    const event = (await service.send("GET", `/v1/events/${seq}`)).json();
    t.equal(event.flags, told);
    t.equal(readEventLine(JSON.stringify(event)).flags, service.log.rows[seq - 1]?.flags);
  }
  const event = (await service.send("GET", "/v1/events/3")).json();
  t.equal(readEventLine(JSON.stringify({ ...event, flags: 3 })).flags, 3);
});

test("a map has as many entries as its pages list; of an array it is told how many were written", async (t) => {
  for (const [type, attr, own] of [
    ["HASH", {}, { entries: 1, written: null, possible_cpus: null }],
    ["ARRAY", { map_flags: 0 }, { entries: 4, written: 1, possible_cpus: null }],
    ["ARRAY", { map_flags: ["BPF_F_MMAPABLE"] }, { entries: 4, written: 1, possible_cpus: null }],
    ["PERCPU_ARRAY", { map_flags: 0 }, { entries: 4, written: 1, possible_cpus: 2 }],
    ["PERCPU_HASH", {}, { entries: 1, written: null, possible_cpus: 2 }],
    ["LRU_PERCPU_HASH", { map_flags: 0 }, { entries: 1, written: null, possible_cpus: 2 }],
  ] as const) {
    const { service, fd, put, get } = await withMap(t, { map_type: `BPF_MAP_TYPE_${type}`, ...attr });
    const value = "01".repeat(own.possible_cpus === null ? 4 : 16);
    t.match(await get("/v1/maps/1"), { written: own.written && 0 });
    for (let times = 0; times < 2; times++) await put("02000000", value);
    const { entries, written, possible_cpus } = await get("/v1/maps/1");
    t.same({ entries, written, possible_cpus }, own, type);
    t.equal((await get("/v1/maps/1/elements")).elements.length, entries, type);
    if (own.written === null) continue;
    const elements = ["00000000", "02000000", "03000000"].map((key) => ({ key, value }));
    t.equal((await service.send("POST", `${fd}/batch/update`, { elements })).statusCode, 200);
    t.match(await get("/v1/maps/1"), { entries: 4, written: 3 });
    t.match((await get("/v1/maps?at=3")).maps[0], { entries: 4, written: 1 });
  }
  t.equal((await (await withMap(t, {})).get("/v1/log")).possible_cpus, 2);
});

test("an array's elements that are stored to as memory were written", async (t) => {
  const { service, fd, get } = await withMap(t, { map_type: "BPF_MAP_TYPE_ARRAY", map_flags: ["BPF_F_MMAPABLE"] });
  const store = (bytes: number) =>
    service.send("PUT", `${fd}/memory`, Buffer.alloc(bytes), { "content-type": "application/octet-stream" });
  t.equal((await store(16)).statusCode, 200);
  t.match(await get("/v1/maps/1"), { entries: 4, written: 2 });
  t.equal((await store(4096)).statusCode, 200);
  t.match(await get("/v1/maps/1"), { entries: 4, written: 4 });
});

test("an array whose elements an earlier release has not counted is told to have no count", async (t) => {
  const { service, put, get } = await withMap(t, { map_type: "BPF_MAP_TYPE_ARRAY", map_flags: 0 });
  await put("02000000", "01010101");
  const { state } = service.engine;
  state.counts.set(state.map(1) as MapRecord, mapType(BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY) as MapType, 0);
  t.match(await get("/v1/maps/1"), { entries: 4, written: null });
  await put("03000000", "01010101");
  t.match(await get("/v1/maps/1"), { entries: 4, written: null });
});
