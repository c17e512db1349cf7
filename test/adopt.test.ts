import { mkdirSync, rmSync } from "node:fs";
import t, { type Test } from "tap";
import { BPF_F, BPF_MAP_TYPE } from "../src/abi/bpf.ts";
import { type Bpf, openBpf } from "../src/mirror/bpf.ts";
import { BPFFS, unfitForKernel } from "./support/bpffs.ts";
import { hex, type Json, Ledger, until } from "./support/ledger.ts";
import { hash, u32, u64 } from "./support/mirror.ts";

/** What a shape has beside that of `hash`. */
type Shape = Partial<Parameters<Bpf["create"]>[0]>;

function run(bpf: Bpf): void {
  const base = `${BPFFS}/mladopt${process.pid}`;
  mkdirSync(base);
  t.teardown(() => rmSync(base, { recursive: true }));

  /** A map of some other program's, with two elements; it stays open for the test. */
  function strange(t: Test, shape: Shape = {}, fill = true): { fd: number; id: number } {
    const fd = bpf.create({ ...hash, name: "strange", ...shape });
    if (fd < 0) throw new Error(`creating a map: ${fd}`);
    t.teardown(() => bpf.close(fd));
    const info = bpf.infoByFd(fd);
    if (typeof info === "number") throw new Error(`its info: ${info}`);
    if (fill) for (const key of [1, 2]) bpf.update(fd, u32(key), u64(key));
    return { fd, id: info.id };
  }

  function valueAt(fd: number, key: number): number {
    const value = Buffer.alloc(8);
    return bpf.lookup(fd, u32(key), value) < 0 ? -1 : Number(value.readBigUInt64LE(0));
  }

  async function started(t: Test, name: string): Promise<Ledger> {
    const ledger = new Ledger(t, name);
    await ledger.start();
    return ledger;
  }

  t.test("a map that another program has made is a map of the ledger's from then on", async (t) => {
    const ledger = await started(t, "hash");
    const { fd, id } = strange(t);
    const listed = (await ledger.must("GET", "/kernel/maps")).kernel_maps as Json[];
    t.match(
      listed.find(({ kernel_id }) => kernel_id === id),
      { map_type: "BPF_MAP_TYPE_HASH", name: "strange", max_entries: 64, map_id: null, not_adoptable: null },
    );
    const { map, seq } = (await ledger.must("POST", "/maps/adopt", { kernel_id: id })) as { map: Json; seq: number };
    t.match(map, {
      name: "strange",
      entries: 2,
      pinned: ["/sys/fs/bpf/strange"],
      mirror: { state: "on", kernel_id: id },
    });
    const mapId = map.id as number;
    t.equal(await ledger.lastSeq(), seq);
    const events = (await ledger.must("GET", `/events?map=${mapId}`)).events as Json[];
    t.same(
      events.map(({ cmd }) => cmd),
      ["BPF_MAP_CREATE", "BPF_MAP_UPDATE_BATCH", "BPF_OBJ_PIN", "CLOSE"],
    );
    t.same(await ledger.elements(mapId), { 1: 1, 2: 2 });
    t.match(events[0], { attr: { adopted: id, map_name: "strange" } });
    t.match(events[1], { attr: { imported: true } });
    await ledger.put(mapId, 1, 11);
    await ledger.must("DELETE", `/maps/${mapId}/elements/${hex(u32(2))}`);
    await ledger.put(mapId, 3, 3);
    t.same(
      [1, 2, 3].map((key) => valueAt(fd, key)),
      [11, -1, 3],
      "who has made it sees what is written",
    );
    t.match(await ledger.must("GET", `/maps/${mapId}/drift`), { missing: 0, changed: 0, extra: 0 });
    const taken = (await ledger.must("GET", "/kernel/maps")).kernel_maps as Json[];
    t.match(
      taken.find(({ kernel_id }) => kernel_id === id),
      { map_id: mapId, not_adoptable: `it is map ${mapId}'s` },
    );
    t.match(await ledger.ask("POST", "/maps/adopt", { kernel_id: id }), { status: 409, json: { errno: "EEXIST" } });
    await ledger.stop();
    await ledger.start();
    t.match(
      await ledger.must("GET", `/maps/${mapId}`),
      { mirror: { state: "on", kernel_id: id } },
      "it is taken up again",
    );
    await ledger.put(mapId, 1, 12);
    t.equal(valueAt(fd, 1), 12);
  });

  t.test("every type that the kernel tells of is adopted with what it holds", async (t) => {
    const ledger = await started(t, "types");
    const T = BPF_MAP_TYPE;
    const shapes: readonly Shape[] = [
      { type: T.BPF_MAP_TYPE_HASH, mapFlags: BPF_F.BPF_F_NO_PREALLOC },
      { type: T.BPF_MAP_TYPE_LRU_HASH, maxEntries: 1000 },
      { type: T.BPF_MAP_TYPE_LRU_HASH, maxEntries: 1000, mapFlags: BPF_F.BPF_F_NO_COMMON_LRU },
      { type: T.BPF_MAP_TYPE_ARRAY, maxEntries: 8 },
      { type: T.BPF_MAP_TYPE_ARRAY, maxEntries: 8, mapFlags: BPF_F.BPF_F_MMAPABLE },
      { type: T.BPF_MAP_TYPE_PERCPU_HASH },
      { type: T.BPF_MAP_TYPE_PERCPU_ARRAY, maxEntries: 8 },
    ];
    for (const [at, shape] of shapes.entries()) {
      const { fd, id } = strange(t, shape, false);
      const value = Buffer.alloc(1024, 5);
      for (const key of [1, 2]) if (bpf.update(fd, u32(key), value) < 0) throw new Error(`filling shape ${at}`);
      const pathname = `/sys/fs/bpf/type_${at}`;
      const { map } = (await ledger.must("POST", "/maps/adopt", { kernel_id: id, pathname })) as { map: Json };
      t.match(map, { mirror: { state: "on", kernel_id: id, max_entries: shape.maxEntries ?? 64 } });
      const { value: shown } = await ledger.must("GET", `/maps/${map.id}/elements/${hex(u32(2))}`);
      t.match(shown, /^(05)+$/);
      t.match(await ledger.must("GET", `/maps/${map.id}/drift`), { missing: 0, changed: 0, extra: 0 });
    }
    await ledger.stop();
    await ledger.start();
    t.ok(
      ledger.said.includes(`recovering: ${shapes.length} of ${shapes.length} kernel maps`),
      "it tells how far it is",
    );
    const { maps } = await ledger.must("GET", "/maps");
    t.same(
      (maps as { mirror: Json }[]).map(({ mirror }) => mirror.state),
      shapes.map(() => "on"),
    );
  });

  t.test("interfaces and queues are adopted, unless they name programs", async (t) => {
    const ledger = await started(t, "targets");
    const { BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_DEVMAP_HASH, BPF_MAP_TYPE_CPUMAP } = BPF_MAP_TYPE;
    const loopback = 1;
    for (const [type, number, valueSize] of [
      [BPF_MAP_TYPE_DEVMAP, loopback, 4],
      [BPF_MAP_TYPE_DEVMAP_HASH, loopback, 8],
      [BPF_MAP_TYPE_CPUMAP, 192, 8],
    ] as const) {
      const { fd, id } = strange(t, { type, valueSize, maxEntries: 4 }, false);
      const value = Buffer.alloc(valueSize);
      value.writeUInt32LE(number);
      if (bpf.update(fd, u32(1), value) < 0) throw new Error(`filling a map of type ${type}`);
      const pathname = `/sys/fs/bpf/targets_${type}`;
      const { map } = (await ledger.must("POST", "/maps/adopt", { kernel_id: id, pathname })) as { map: Json };
      t.match(map, { entries: 1, mirror: { state: "on", kernel_id: id } });
      t.match(await ledger.must("GET", `/maps/${map.id}/elements/${hex(u32(1))}`), { value: hex(value) });
      t.match(await ledger.must("GET", `/maps/${map.id}/drift`), { missing: 0, changed: 0, extra: 0 });
    }
    await ledger.stop();
    await ledger.start();
    for (const { mirror } of (await ledger.must("GET", "/maps")).maps as { mirror: Json }[])
      t.equal(mirror.state, "on");
  });

  t.test("by its pin; frozen; and with many elements", async (t) => {
    const ledger = await started(t, "pinned");
    const { fd, id } = strange(t, { maxEntries: 20_000 }, false);
    for (let key = 0; key < 20_000; key++) bpf.update(fd, u32(key), u64(key));
    bpf.freeze(fd);
    bpf.pin(fd, `${base}/flows`);
    const { map } = (await ledger.must("POST", "/maps/adopt", { pinned: `${base}/flows` })) as { map: Json };
    t.match(map, {
      frozen: true,
      entries: 20_000,
      pinned: ["/sys/fs/bpf/flows"],
      mirror: { kernel_id: id, state: "on" },
    });
    t.match(await ledger.must("GET", `/maps/${map.id}/drift`), { missing: 0, changed: 0, extra: 0 });
    const put = await ledger.ask("PUT", `/maps/${map.id}/elements/${hex(u32(1))}`, { value: hex(u64(0)) });
    t.match(put, { status: 403, json: { errno: "EPERM" } });
  });

  t.test("what its programs write is taken over by the policy import", async (t) => {
    const ledger = await started(t, "policy");
    const { fd, id } = strange(t);
    const { map } = (await ledger.must("POST", "/maps/adopt", { kernel_id: id })) as { map: Json };
    await ledger.must("PUT", `/maps/${map.id}/mirror`, { policy: "import", interval_seconds: 0.2 });
    bpf.update(fd, u32(1), u64(99));
    await until("it is taken over", async () => (await ledger.elements(map.id as number))[1] === 99);
  });

  t.test("what cannot be adopted is refused, and leaves nothing", async (t) => {
    const ledger = await started(t, "refused");
    const refuses = async (body: object, status: number, detail: RegExp): Promise<void> => {
      const before = await ledger.lastSeq();
      t.match(await ledger.ask("POST", "/maps/adopt", body), { status, json: { detail } });
      t.equal(await ledger.lastSeq(), before);
      t.same((await ledger.must("GET", "/maps")).maps, []);
    };
    const queue = strange(t, { type: BPF_MAP_TYPE.BPF_MAP_TYPE_QUEUE, keySize: 0 }, false);
    await refuses({ kernel_id: queue.id }, 405, /the kernel does not tell what it has/);
    await refuses({ kernel_id: 4_000_000_000 }, 404, /opening kernel map 4000000000: ENOENT/);
    await refuses({ pinned: `${base}/nothing` }, 404, /ENOENT/);
    await refuses({}, 400, /./);
    const { id } = strange(t);
    await refuses({ kernel_id: id, pathname: "/tmp/map" }, 404, /^BPF_OBJ_PIN: /);
    await refuses({ kernel_id: id, pathname: "/sys/fs/bpf/no/such" }, 404, /^BPF_OBJ_PIN: /);
    const { map } = (await ledger.must("POST", "/maps/adopt", { kernel_id: id })) as { map: Json };
    const other = strange(t);
    const second = await ledger.ask("POST", "/maps/adopt", { kernel_id: other.id });
    t.match(second, { status: 409, json: { detail: /^BPF_OBJ_PIN: / } }, "the name is taken");
    t.equal(valueAt(other.fd, 1), 1);
    await ledger.must("POST", "/maps/adopt", { kernel_id: other.id, pathname: "/sys/fs/bpf/other" });
    await ledger.must("DELETE", `/pins/${encodeURIComponent("/sys/fs/bpf/strange")}`);
    t.match(await ledger.ask("GET", `/maps/${map.id}`), { status: 404 }, "without its pin it is freed");
  });
}

const reason = unfitForKernel();
if (reason !== null) t.pass("bpf(2)", { skip: reason });
else run(openBpf() as Bpf);
