import { mkdirSync, readdirSync, rmSync, unlinkSync } from "node:fs";
import t, { type Test } from "tap";
import { BPF_ATTACH_TYPE, BPF_F, BPF_MAP_TYPE, BPF_PROG_TYPE } from "../../src/abi/bpf.ts";
import { BTF_KIND } from "../../src/maps/btf_types.ts";
import { openRealObject } from "../../src/mirror/real_objects.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { BtfBlob } from "../btf/btf_blob.ts";
import { BPFFS, unfitForKernel } from "../support/bpffs.ts";
import { hex, type Json, Ledger, until } from "../support/ledger.ts";
import { hash, u32, u64 } from "../support/mirror.ts";
import { OWN_NAME } from "../support/own_name.ts";

/** What a shape has beside that of `hash`. */
type Shape = Partial<Parameters<Bpf["create"]>[0]>;

/** What else a map is created with. */
type Beside = Partial<NonNullable<Parameters<Bpf["create"]>[1]>>;

function run(bpf: Bpf): void {
  const base = `${BPFFS}/mladopt${OWN_NAME}`;
  mkdirSync(base);
  t.teardown(() => rmSync(base, { recursive: true }));

  let pins = 0;

  /** A map of some other program's, with two elements; it stays open until the end, and pinned, which others can see. */
  function strange(
    shape: Shape = {},
    fill = true,
    beside: Beside = {},
  ): { fd: number; id: number; pin: string; name: string } {
    const with_ = { innerMapFd: 0, btfFd: 0, btfKeyTypeId: 0, btfValueTypeId: 0, ...beside };
    const { name = `strange${++pins}` } = shape;
    const fd = bpf.create({ ...hash, ...shape, name }, with_);
    if (fd < 0) throw new Error(`creating a map: ${fd}`);
    t.teardown(() => bpf.close(fd));
    const info = bpf.infoByFd(fd);
    if (typeof info === "number") throw new Error(`its info: ${info}`);
    if (fill) for (const key of [1, 2]) bpf.update(fd, u32(key), u64(key));
    const pin = `${base}/p${++pins}`;
    if (bpf.pin(fd, pin) < 0) throw new Error(`pinning at ${pin}`);
    return { fd, id: info.id, pin, name };
  }

  /** A program of some other program's. */
  function program(t: Test, progType: number, expectedAttachType = 0): { fd: number; id: number } {
    const opened = openRealObject(bpf, { kind: "prog", progType, expectedAttachType });
    if (!("facts" in opened) || opened.facts.kind !== "prog") throw new Error("loading a program");
    const { fd, facts } = opened;
    t.teardown(() => bpf.close(fd));
    return { fd, id: facts.progId };
  }

  function loadBtf(t: Test, blob: BtfBlob): number {
    const fd = bpf.loadBtf(blob.bytes());
    if (fd < 0) throw new Error(`loading BTF: ${fd}`);
    t.teardown(() => bpf.close(fd));
    return fd;
  }

  function write(fd: number, key: number, value: Buffer): void {
    const ret = bpf.update(fd, u32(key), value);
    if (ret < 0) throw new Error(`writing element ${key}: ${ret}`);
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

  /** Maps of all sorts are adopted by one ledger. What they are when it has started again is asked once, at the end. */
  const ledger = new Ledger(t, "all");
  t.before(() => ledger.start());
  const takenUp: { readonly what: string; readonly holds: (t: Test) => Promise<void> }[] = [];

  t.test("a map that another program has made is a map of the ledger's from then on", async (t) => {
    const { fd, id, name } = strange();
    const listed = (await ledger.must("GET", "/kernel/maps")).kernel_maps as Json[];
    t.match(
      listed.find(({ kernel_id }) => kernel_id === id),
      { map_type: "BPF_MAP_TYPE_HASH", name, max_entries: 64, map_id: null, not_adoptable: null },
    );
    const { map, seq } = (await ledger.must("POST", "/maps/adopt", { kernel_id: id })) as { map: Json; seq: number };
    t.match(map, {
      name,
      entries: 2,
      pinned: [`/sys/fs/bpf/${name}`],
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
    t.match(events[0], { attr: { adopted: id, map_name: name } });
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
      { map_id: mapId, not_adoptable: `it is the kernel map of map ${mapId}` },
    );
    t.match(await ledger.ask("POST", "/maps/adopt", { kernel_id: id }), { status: 409, json: { errno: "EEXIST" } });
    takenUp.push({
      what: "a map",
      async holds(t) {
        t.match(await ledger.must("GET", `/maps/${mapId}`), { mirror: { state: "on", kernel_id: id } });
        await ledger.put(mapId, 1, 12);
        t.equal(valueAt(fd, 1), 12);
      },
    });
  });

  t.test("every type that the kernel tells of is adopted with what it holds", async (t) => {
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
      const { fd, id } = strange(shape, false);
      const value = Buffer.alloc(1024, 5);
      for (const key of [1, 2]) if (bpf.update(fd, u32(key), value) < 0) throw new Error(`filling shape ${at}`);
      const pathname = `/sys/fs/bpf/type_${at}`;
      const { map } = (await ledger.must("POST", "/maps/adopt", { kernel_id: id, pathname })) as { map: Json };
      t.match(map, { mirror: { state: "on", kernel_id: id, max_entries: shape.maxEntries ?? 64 } });
      t.equal(map.mirror_shape, shape.type === T.BPF_MAP_TYPE_LRU_HASH ? "exact" : null);
      const { value: shown } = await ledger.must("GET", `/maps/${map.id}/elements/${hex(u32(2))}`);
      t.match(shown, /^(05)+$/);
      t.match(await ledger.must("GET", `/maps/${map.id}/drift`), { missing: 0, changed: 0, extra: 0 });
    }
  });

  t.test("interfaces and queues are adopted, with the programs that they name", async (t) => {
    const { BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_DEVMAP_HASH, BPF_MAP_TYPE_CPUMAP } = BPF_MAP_TYPE;
    const loopback = 1;
    const named = program(t, BPF_PROG_TYPE.BPF_PROG_TYPE_XDP, BPF_ATTACH_TYPE.BPF_XDP_DEVMAP);
    for (const [type, number, valueSize] of [
      [BPF_MAP_TYPE_DEVMAP, loopback, 4],
      [BPF_MAP_TYPE_DEVMAP_HASH, loopback, 8],
      [BPF_MAP_TYPE_CPUMAP, 192, 8],
    ] as const) {
      const { fd, id } = strange({ type, valueSize, maxEntries: 4 }, false);
      const value = Buffer.alloc(valueSize);
      value.writeUInt32LE(number);
      write(fd, 1, value);
      const hasProgram = type === BPF_MAP_TYPE_DEVMAP_HASH;
      if (hasProgram) write(fd, 2, Buffer.concat([u32(number), u32(named.fd)]));
      const pathname = `/sys/fs/bpf/targets_${type}`;
      const { map } = (await ledger.must("POST", "/maps/adopt", { kernel_id: id, pathname })) as { map: Json };
      t.match(map, { entries: hasProgram ? 2 : 1, mirror: { state: "on", kernel_id: id } });
      t.match(await ledger.must("GET", `/maps/${map.id}/elements/${hex(u32(1))}`), { value: hex(value) });
      if (hasProgram)
        t.match(
          await ledger.must("GET", `/maps/${map.id}/elements/${hex(u32(2))}`),
          { value: hex(Buffer.concat([u32(number), u32(named.id)])) },
          "as the kernel shows it",
        );
      t.match(await ledger.must("GET", `/maps/${map.id}/drift`), { missing: 0, changed: 0, extra: 0 });
    }
  });

  t.test("an array of programs is adopted with its programs", async (t) => {
    const [one, two] = [
      program(t, BPF_PROG_TYPE.BPF_PROG_TYPE_SOCKET_FILTER),
      program(t, BPF_PROG_TYPE.BPF_PROG_TYPE_SOCKET_FILTER),
    ];
    const type = BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY;
    const { fd, id } = strange({ type, valueSize: 4, maxEntries: 8 }, false);
    for (const [key, named] of [one, two, one].entries()) write(fd, key, u32(named.fd));
    bpf.freeze(fd);
    const { map } = (await ledger.must("POST", "/maps/adopt", { kernel_id: id })) as { map: Json };
    t.match(map, { entries: 3, frozen: true, mirror: { state: "on", kernel_id: id } });
    for (const [key, named] of [one, two, one].entries())
      t.match(await ledger.must("GET", `/maps/${map.id}/elements/${hex(u32(key))}`), { value: hex(u32(named.id)) });
    t.match(await ledger.must("GET", `/maps/${map.id}/drift`), { missing: 0, changed: 0, extra: 0 });
  });

  t.test("a map of maps is adopted with the maps that it holds", async (t) => {
    const { BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS } = BPF_MAP_TYPE;
    const innerShape = { type: BPF_MAP_TYPE_ARRAY, maxEntries: 4 };
    const inner = [strange(innerShape), strange({ ...innerShape, name: "second" }), strange(innerShape, false)];
    // The maps that hold them hold them.
    for (const { pin } of inner) unlinkSync(pin);
    const own = (await ledger.must("POST", "/maps/adopt", { kernel_id: inner[1]?.id })) as { map: Json };
    for (const type of [BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS]) {
      const template = strange(innerShape, false);
      const { fd, id } = strange({ type, valueSize: 4, maxEntries: 8 }, false, { innerMapFd: template.fd });
      for (const [key, { fd: named }] of [...inner, ...inner].entries()) write(fd, key, u32(named));
      const pathname = `/sys/fs/bpf/outer_${type}`;
      const answer = (await ledger.must("POST", "/maps/adopt", { kernel_id: id, pathname })) as { map: Json };
      t.match(answer.map, {
        entries: 6,
        pinned: [pathname],
        inner_map: { map_type: "BPF_MAP_TYPE_ARRAY", max_entries: 4 },
        mirror: { state: "on", kernel_id: id },
      });
      t.match(await ledger.must("GET", `/maps/${answer.map.id}/drift`), { missing: 0, changed: 0, extra: 0 });
      const { value } = await ledger.must("GET", `/maps/${answer.map.id}/elements/${hex(u32(1))}`);
      t.equal(value, hex(u32(own.map.id as number)), "one that was adopted before is the same map");
      // A map that is put where another was.
      const session = await ledger.must("POST", "/sessions", { ttl_seconds: 3600 });
      const { fd: newFd } = await ledger.must("POST", `/sessions/${session.id}/maps`, {
        map_type: "BPF_MAP_TYPE_ARRAY",
        key_size: 4,
        value_size: 8,
        max_entries: 4,
      });
      const { fd: outerFd } = await ledger.must("POST", `/sessions/${session.id}/fds`, {
        kind: "map",
        map: String(answer.map.id),
      });
      await ledger.must("PUT", `/sessions/${session.id}/fds/${outerFd}/elements/${hex(u32(0))}`, {
        value: hex(u32(newFd as number)),
      });
      const held = Buffer.alloc(4);
      bpf.lookup(fd, u32(0), held);
      t.not(held.readUInt32LE(), inner[0]?.id, "who has made it sees what is written");
    }
    const { maps } = (await ledger.must("GET", "/maps")) as { maps: (Json & { mirror: Json })[] };
    const [first] = maps.filter(({ mirror }) => mirror.kernel_id === inner[0]?.id);
    t.same(await ledger.elements(first?.id as number), { 0: 0, 1: 1, 2: 2, 3: 0 });
    t.same(first?.pinned, [], "what holds it holds it");
    takenUp.push({
      what: "what a map of maps holds",
      async holds(t) {
        const mirror = async () => (await ledger.must("GET", `/maps/${first?.id}`)).mirror as Json;
        await until("its holders have been looked at", async () => (await mirror()).held === "yes");
        t.match(await mirror(), { state: "on", kernel_id: inner[0]?.id });
      },
    });
  });

  t.test("a map keeps the BTF that describes it", async (t) => {
    const blob = new BtfBlob();
    const number = blob.int("u32", 4);
    const lock = blob.struct("bpf_spin_lock", 4, [["val", number, 0]]);
    const counter = blob.struct("counter", 8, [
      ["lock", lock, 0],
      ["hits", number, 4],
    ]);
    const btfFd = loadBtf(t, blob);
    const described = { btfFd, btfKeyTypeId: number, btfValueTypeId: counter };
    const { fd, id } = strange({}, false, described);
    write(fd, 1, Buffer.concat([u32(0), u32(7)]));
    const { map } = (await ledger.must("POST", "/maps/adopt", { kernel_id: id })) as { map: Json };
    t.match(map, {
      btf: {
        btf_key_type_id: number,
        btf_value_type_id: counter,
        fields: [{ kind: "bpf_spin_lock", offset: 0, size: 4 }],
      },
    });
    const loaded = await ledger.events("BPF_BTF_LOAD");
    t.equal(loaded.at(-1)?.value, hex(blob.bytes()));
    const inside = strange({}, false, described);
    const type = BPF_MAP_TYPE.BPF_MAP_TYPE_HASH_OF_MAPS;
    const outer = strange({ type, valueSize: 4 }, false, { innerMapFd: inside.fd });
    write(outer.fd, 1, u32(inside.fd));
    t.match(await ledger.ask("POST", "/maps/adopt", { kernel_id: outer.id, pathname: "/sys/fs/bpf/outer" }), {
      status: 405,
      json: { detail: /maps with a bpf_spin_lock inside another are not mirrored/ },
    });
  });

  t.test("a program's constants are adopted as libbpf makes them", async (t) => {
    const blob = new BtfBlob();
    const number = blob.int("u64", 8);
    const variable = blob.add(BTF_KIND.VAR, "limit", number, 0, [0]);
    const section = blob.add(BTF_KIND.DATASEC, ".rodata", 8, 1, [variable, 0, 8]);
    const { fd, id } = strange(
      {
        type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
        maxEntries: 1,
        mapFlags: BPF_F.BPF_F_MMAPABLE | BPF_F.BPF_F_RDONLY_PROG,
        name: "prog.rodata",
      },
      false,
      { btfFd: loadBtf(t, blob), btfValueTypeId: section },
    );
    write(fd, 0, u64(42));
    bpf.freeze(fd);
    const { map } = (await ledger.must("POST", "/maps/adopt", { kernel_id: id })) as { map: Json };
    t.match(map, {
      name: "prog.rodata",
      frozen: true,
      pinned: ["/sys/fs/bpf/prog_rodata"],
      map_flags: ["BPF_F_RDONLY_PROG", "BPF_F_MMAPABLE"],
      btf: { btf_key_type_id: 0, btf_value_type_id: section },
      mirror: { state: "on", kernel_id: id },
    });
    t.same(await ledger.elements(map.id as number), { 0: 42 });
  });

  t.test("by its pin; frozen; and with many elements", async (t) => {
    const { fd, id } = strange({ maxEntries: 20_000 }, false);
    for (let key = 0; key < 20_000; key++) bpf.update(fd, u32(key), u64(key));
    bpf.freeze(fd);
    mkdirSync(`${base}/net`);
    bpf.pin(fd, `${base}/net/flows`);
    const { map } = (await ledger.must("POST", "/maps/adopt", { pinned: `${base}/net/flows` })) as { map: Json };
    t.match(map, {
      frozen: true,
      entries: 20_000,
      pinned: [`${base}/net/flows`],
      mirror: { kernel_id: id, state: "on" },
    });
    const made = (await ledger.events("MKDIR")).map(({ attr }) => (attr as Json).pathname);
    t.same(made, [base, `${base}/net`]);
    t.same(readdirSync(base).includes("net"), true);
    t.match(await ledger.must("GET", `/maps/${map.id}/drift`), { missing: 0, changed: 0, extra: 0 });
    const put = await ledger.ask("PUT", `/maps/${map.id}/elements/${hex(u32(1))}`, { value: hex(u64(0)) });
    t.match(put, { status: 403, json: { errno: "EPERM" } });
  });

  t.test("what its programs wrote while the service was down stays, and is told, until somebody decides", async (t) => {
    const ledger = await started(t, "begins");
    const { fd, id } = strange();
    const { map } = (await ledger.must("POST", "/maps/adopt", { kernel_id: id })) as { map: Json };
    await ledger.put(map.id as number, 3, 3);
    await ledger.stop();
    bpf.update(fd, u32(1), u64(99));
    bpf.delete(fd, u32(2));
    bpf.update(fd, u32(4), u64(4));
    await ledger.start();
    const inKernel = () => [1, 2, 3, 4].map((key) => valueAt(fd, key));
    t.same(inKernel(), [99, -1, 3, 4]);
    t.same(await ledger.elements(map.id as number), { 1: 1, 2: 2, 3: 3 });
    const attr = { policy: "report", missing: 1, changed: 1, extra: 1, at: "start" };
    t.match(await ledger.events("MIRROR_DRIFT"), [{ map: map.id, attr }]);
    t.match(await ledger.must("GET", `/maps/${map.id}`), { mirror: { state: "on", kernel_id: id, equal: "no" } });
    await ledger.must("POST", `/maps/${map.id}/mirror/resync`);
    t.same(inKernel(), [99, -1, 3, 4], "a resync does no more than the policy says");
  });

  t.test("a kernel map that nothing but the mirror holds is lost, and on again with a pin", async (t) => {
    const ledger = await started(t, "held");
    const { fd, id, pin } = strange();
    const { map } = (await ledger.must("POST", "/maps/adopt", { kernel_id: id })) as { map: Json };
    const mirror = async (): Promise<Json> => (await ledger.must("GET", `/maps/${map.id}`)).mirror as Json;
    t.match(await mirror(), { state: "on", held: "yes" });
    unlinkSync(pin);
    await until("it is lost", async () => (await mirror()).state === "lost");
    t.match(await mirror(), { kernel_id: id, detail: /^nothing but the mirror holds kernel map/ });
    t.match(await ledger.events("MIRROR_FOUND"), [
      { map: map.id, attr: { what: "held by nobody else", kernel_id: id } },
    ]);
    bpf.pin(fd, pin);
    await until("it is held again", async () => (await mirror()).state === "on");
    t.match(await mirror(), { state: "on", kernel_id: id, held: "yes" });
  });

  t.test("what its programs write is taken over by the policy import", async () => {
    const { fd, id } = strange();
    const { map } = (await ledger.must("POST", "/maps/adopt", { kernel_id: id })) as { map: Json };
    await ledger.must("PUT", `/maps/${map.id}/mirror`, { policy: "import", interval_seconds: 0.2 });
    bpf.update(fd, u32(1), u64(99));
    await until("it is taken over", async () => (await ledger.elements(map.id as number))[1] === 99);
  });

  t.test("all of them are taken up again by the next start", async (t) => {
    const mirrors = async () =>
      ((await ledger.must("GET", "/maps")).maps as { id: number; mirror: Json }[]).map(
        ({ id, mirror: { kernel_id } }) => ({ id, mirror: { state: "on", kernel_id } }),
      );
    const before = await mirrors();
    await ledger.stop();
    await ledger.start();
    const maps = (await ledger.must("GET", "/maps")).maps as Json[];
    t.match(maps, before);
    const { length } = before;
    t.ok(ledger.said.includes(`recovering: ${length} of ${length} kernel maps`), "it tells how far it is");
    for (const { what, holds } of takenUp) await t.test(what, holds);
    t.same(await ledger.events("MIRROR_REFUSED"), []);
  });

  t.test("what cannot be adopted is refused, and leaves nothing", async (t) => {
    const ledger = await started(t, "refused");
    const refuses = async (body: object, status: number, detail: RegExp): Promise<void> => {
      const before = await ledger.lastSeq();
      t.match(await ledger.ask("POST", "/maps/adopt", body), { status, json: { detail } });
      t.equal(await ledger.lastSeq(), before);
      t.same((await ledger.must("GET", "/maps")).maps, []);
      if (status === 405) t.match(await listed((body as { kernel_id: number }).kernel_id), detail, "the list says so");
    };
    const listed = async (id: number): Promise<unknown> => {
      const all = (await ledger.must("GET", "/kernel/maps")).kernel_maps as Json[];
      return all.find(({ kernel_id }) => kernel_id === id)?.not_adoptable;
    };
    const inner = strange();
    const holding = strange({ type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS, valueSize: 4, mapFlags: 0 }, false, {
      innerMapFd: inner.fd,
    });
    write(holding.fd, 3, u32(inner.fd));
    t.equal(await listed(holding.id), null, "it can be adopted by what it holds");
    const queue = strange({ type: BPF_MAP_TYPE.BPF_MAP_TYPE_QUEUE, keySize: 0 }, false);
    await refuses({ kernel_id: queue.id }, 405, /the kernel does not show the elements/);
    const types = BPF_MAP_TYPE;
    const outer = { type: types.BPF_MAP_TYPE_HASH_OF_MAPS, valueSize: 4 };
    const empty = strange(outer, false, { innerMapFd: queue.fd });
    await refuses(
      { kernel_id: empty.id },
      405,
      /it holds no map now, so the definition of its inner maps is not known/,
    );
    write(empty.fd, 1, u32(queue.fd));
    const why = `its element 01000000: kernel map ${queue.id} cannot be adopted: the kernel does not show the elements`;
    await refuses({ kernel_id: empty.id }, 405, new RegExp(why));
    const sockets = strange({ type: types.BPF_MAP_TYPE_SOCKMAP }, false);
    await refuses({ kernel_id: sockets.id }, 405, /nothing opens a socket by its cookie/);
    await refuses({ kernel_id: 4_000_000_000 }, 404, /opening kernel map 4000000000: ENOENT/);
    await refuses({ pinned: `${base}/nothing` }, 404, /ENOENT/);
    await refuses({}, 400, /./);
    const { id, name } = strange();
    await refuses({ kernel_id: id, pathname: "/tmp/map" }, 404, /^BPF_OBJ_PIN: /);
    await refuses({ kernel_id: id, pathname: "/sys/fs/bpf/no/such" }, 404, /^BPF_OBJ_PIN: /);
    const { map } = (await ledger.must("POST", "/maps/adopt", { kernel_id: id })) as { map: Json };
    const other = strange({ name });
    const second = await ledger.ask("POST", "/maps/adopt", { kernel_id: other.id });
    t.match(second, { status: 409, json: { detail: /^map \d+ is pinned at .* already/ } }, "the name is taken");
    t.equal(valueAt(other.fd, 1), 1);
    await ledger.must("POST", "/maps/adopt", { kernel_id: other.id, pathname: "/sys/fs/bpf/other" });
    await ledger.must("DELETE", `/pins/${encodeURIComponent(`/sys/fs/bpf/${name}`)}`);
    t.match(await ledger.ask("GET", `/maps/${map.id}`), { status: 404 }, "without its pin it is freed");
  });
}

const reason = unfitForKernel();
if (reason !== null) t.pass("bpf(2)", { skip: reason });
else run(openBpf() as Bpf);
