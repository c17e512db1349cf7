import t, { type Test } from "tap";
import { Service as Door } from "../../conformance/service.ts";
import { BPF_F, BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { CMD } from "../../src/abi/service.ts";
import { createAttr as attrOf } from "../../src/engine/create_attr.ts";
import { lruEntries } from "../../src/maps/lru_shape.ts";
import type { CreateAttr, MapRecord, MirrorShape } from "../../src/maps/map.ts";
import { HASH, Service } from "../http/service.ts";
import { replayed } from "../replay/support.ts";
import { createAttr } from "../support/commands.ts";
import { hash } from "../support/mirror.ts";

const { BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH, BPF_MAP_TYPE_HASH_OF_MAPS } = BPF_MAP_TYPE;
const LRU = { ...HASH, map_type: "BPF_MAP_TYPE_LRU_HASH", map_flags: [] };
const OWN_LISTS = BPF_F.BPF_F_NO_COMMON_LRU;

async function started(t: Test) {
  const service = await Service.start(t);
  const session = await service.session();
  const must = async (method: string, url: string, body?: object) => {
    const response = await service.send(method, url, body);
    if (response.statusCode >= 300) throw new Error(`${method} ${url}: ${response.body}`);
    return response.json();
  };
  const made = (body: object) => must("POST", `${session}/maps`, body);
  const shapeOf = async (map: number) => (await must("GET", `/v1/maps/${map}`)).mirror_shape;
  return { service, session, must, made, shapeOf };
}

/** The attrs that the log has of creations. */
function creations({ log }: Service | Door): Record<string, unknown>[] {
  return log.rows.filter(({ cmd }) => cmd === CMD.BPF_MAP_CREATE).map(({ attr }) => JSON.parse(attr as string));
}

t.test("lruEntries rounds as htab_map_alloc does", async (t) => {
  for (const [maxEntries, mapFlags, cpus, rounded] of [
    [1023, 0, 2, 1023],
    [1023, OWN_LISTS, 2, 1024],
    [1024, OWN_LISTS, 2, 1024],
    [1024, OWN_LISTS, 3, 1026],
    [1, OWN_LISTS, 64, 64],
    [2 ** 32 - 1, OWN_LISTS, 3, 2 ** 32 - 1],
    [2 ** 32 - 1, OWN_LISTS, 2, 2 ** 32 - 2],
  ] as const)
    t.equal(lruEntries({ maxEntries, mapFlags }, cpus), rounded, `${maxEntries} on ${cpus} CPUs`);
});

t.test("an LRU map is created exact unless asked for otherwise, and map and event say so", async (t) => {
  const { service, session, made, shapeOf } = await started(t);
  for (const [at, { asked, shape }] of [
    { asked: {}, shape: "exact" },
    { asked: { mirror_shape: null }, shape: "exact" },
    { asked: { mirror_shape: "exact" }, shape: "exact" },
    { asked: { mirror_shape: "roomy" }, shape: "roomy" },
    { asked: { map_type: "BPF_MAP_TYPE_LRU_PERCPU_HASH" }, shape: "exact" },
    { asked: { map_type: BPF_MAP_TYPE_LRU_PERCPU_HASH, mirror_shape: "roomy" }, shape: "roomy" },
  ].entries()) {
    const { map_id } = await made({ ...LRU, ...asked });
    t.equal(await shapeOf(map_id), shape, JSON.stringify(asked));
    t.match(creations(service)[at], { mirror_shape: shape });
  }
  await service.send("POST", `${session}/bpf`, { cmd: "BPF_MAP_CREATE", attr: { ...LRU, map_type: 9 } });
  t.match(creations(service).at(-1), { mirror_shape: "exact" }, "at the syscall door, too");
});

t.test("a map of another type has no shape, and is created with none", async (t) => {
  const { service, session, made, shapeOf } = await started(t);
  const { map_id } = await made({ ...HASH, mirror_shape: null });
  t.equal(await shapeOf(map_id), null);
  t.notOk("mirror_shape" in (creations(service)[0] ?? {}));
  for (const [url, body, detail] of [
    [`${session}/maps`, { ...HASH, mirror_shape: "exact" }, /only allowed for LRU maps/],
    [`${session}/maps`, { ...LRU, mirror_shape: "large" }, /exact or roomy required, found "large"/],
    [`${session}/bpf`, { cmd: "BPF_MAP_CREATE", attr: { ...LRU, mirror_shape: "exact" } }, /no such field/],
  ] as const) {
    const response = await service.send("POST", url, body);
    t.equal(response.statusCode, 400);
    t.match(response.json(), { detail });
  }
  t.equal(creations(service).length, 1);
});

t.test("a map of a log without shapes is roomy, and stays so in a replay", async (t) => {
  const old = new Door();
  const created = (attr: Partial<CreateAttr>) => old.run({ cmd: CMD.BPF_MAP_CREATE, attr: createAttr(attr) }).outcome;
  t.equal(created({ mapType: BPF_MAP_TYPE_LRU_HASH }).errno, 0);
  old.bpf({ cmd: "BPF_MAP_CREATE", attr: { map_type: 9, key_size: 4, value_size: 4, max_entries: 4 } });
  t.equal(created({ mapType: BPF_MAP_TYPE_LRU_HASH, mirrorShape: "roomy" }).errno, 0);
  t.equal(created({}).errno, 0);
  t.same(
    creations(old).map(({ mirror_shape }) => mirror_shape),
    [undefined, "exact", "roomy", undefined],
  );
  const { state, fold } = old.cells();
  t.same(fold, state);
  const { service, must } = await started(t);
  const { summary, differences } = await replayed(old.log.rows, service.app);
  t.equal(summary.differences, 0, JSON.stringify(differences));
  t.same(
    creations(service).map(({ mirror_shape }) => mirror_shape),
    ["roomy", "exact", "roomy", undefined],
  );
  const { maps } = await must("GET", "/v1/maps");
  t.same(
    maps.map(({ mirror_shape }: { mirror_shape: unknown }) => mirror_shape),
    ["roomy", "exact", "roomy", null],
  );
});

t.test("a creation keeps the shape: of a map, of an older log's, of one that was adopted", async (t) => {
  const lru: MapRecord = { ...hash, type: BPF_MAP_TYPE_LRU_HASH };
  for (const [record, shape] of [
    [{ ...lru, mirrorShape: "exact" }, "exact"],
    [{ ...lru, mirrorShape: "roomy" }, "roomy"],
    [lru, "roomy"],
    [{ ...lru, adopted: 5 }, "exact"],
    [hash, undefined],
  ] as const)
    t.equal(attrOf(record, 0, 0).mirrorShape, shape);
});

t.test("a restore creates a freed map, and its template, in their shapes again", async (t) => {
  const { service, session, must, made } = await started(t);
  const freed: number[] = [];
  for (const mirror_shape of ["exact", "roomy"]) {
    const lru = await made({ ...LRU, mirror_shape, map_flags: ["BPF_F_NO_COMMON_LRU"] });
    const outer = await made({ ...HASH, map_type: "BPF_MAP_TYPE_HASH_OF_MAPS", map_flags: [], inner_map_fd: lru.fd });
    t.match(await must("GET", `/v1/maps/${outer.map_id}`), { mirror_shape: null, inner_map: { mirror_shape } });
    freed.push(lru.map_id, outer.map_id);
  }
  const at = service.log.lastSeq;
  for (const fd of [3, 4, 5, 6]) await must("DELETE", `${session}/fds/${fd}`);
  const shapes: unknown[] = [];
  for (const map of freed) {
    const { created } = await must("POST", `/v1/maps/${map}/restore`, { at, session: 1 });
    const { mirror_shape, inner_map } = await must("GET", `/v1/maps/${created.map_id}`);
    shapes.push([mirror_shape, inner_map?.mirror_shape ?? null]);
  }
  t.same(shapes, [
    ["exact", null],
    [null, "exact"],
    ["roomy", null],
    [null, "roomy"],
  ]);
});

t.test("an adopted map has the max_entries that its kernel has rounded", async (t) => {
  const service = new Door();
  const attr = createAttr({ mapType: BPF_MAP_TYPE_LRU_HASH, mapFlags: OWN_LISTS, maxEntries: 1023 });
  const entries = (given: CreateAttr): number => {
    const { outcome } = service.run({ cmd: CMD.BPF_MAP_CREATE, attr: given });
    const { attr: told } = service.bpf({ cmd: "BPF_OBJ_GET_INFO_BY_FD", attr: { bpf_fd: outcome.ret, info_len: 104 } });
    return Buffer.from(told.info as string, "hex").readUInt32LE(16);
  };
  t.equal(entries(attr), 1024);
  t.equal(entries({ ...attr, adopted: 7 }), 1023);
});

t.test("with lists of their own, inner LRU maps have the shape of their template", async (t) => {
  for (const mapFlags of [0, OWN_LISTS])
    for (const template of ["exact", "roomy", undefined] as const)
      for (const put of ["exact", "roomy", undefined] as const) {
        const service = new Door();
        const made = (mirrorShape: MirrorShape | undefined): number => {
          const attr = createAttr({ mapType: BPF_MAP_TYPE_LRU_HASH, mapFlags });
          const shaped = mirrorShape === undefined ? attr : { ...attr, mirrorShape };
          return service.run({ cmd: CMD.BPF_MAP_CREATE, attr: shaped }).outcome.ret;
        };
        const ofMaps = { mapType: BPF_MAP_TYPE_HASH_OF_MAPS, valueSize: 4, innerMapFd: made(template) };
        const outer = service.run({ cmd: CMD.BPF_MAP_CREATE, attr: createAttr(ofMaps) }).outcome.ret;
        const value = Buffer.alloc(4);
        value.writeUInt32LE(made(put));
        const element = { map_fd: outer, key: "00000000", value: value.toString("hex") };
        const { errno, detail } = service.bpf({ cmd: "BPF_MAP_UPDATE_ELEM", attr: element });
        const alike = (template ?? "roomy") === (put ?? "roomy") || mapFlags === 0;
        t.equal(errno, alike ? null : "EINVAL", `${put} into ${template}, map_flags ${mapFlags}`);
        if (!alike) t.match(detail, /has another mirror_shape \(with BPF_F_NO_COMMON_LRU/);
        const { state, fold } = service.cells();
        t.same(fold, state);
      }
});
