import * as fc from "fast-check";
import { type Test, test } from "tap";
import { u32 } from "../../maps/ladder.ts";
import { SEED } from "../../support/seed.ts";
import { HASH, Service } from "../service.ts";

async function started(t: Test) {
  const service = await Service.start(t);
  const session = await service.session();
  const must = async (method: string, url: string, body?: object) => {
    const response = await service.send(method, url, body);
    if (response.statusCode >= 300) throw new Error(`${method} ${url}: ${response.body}`);
    return response.json();
  };
  const elements = async (map: number | string, at?: number) =>
    (await must("GET", `/v1/maps/${map}/elements${at === undefined ? "" : `?at=${at}`}`)).elements;
  const restore = (map: number | string, body: object) => must("POST", `/v1/maps/${map}/restore`, body);
  return { service, session, must, elements, restore };
}

const KEYED: readonly [type: string, attr: object, keys: readonly string[], canDelete: boolean][] = [
  ["BPF_MAP_TYPE_HASH", {}, ["01000000", "02000000", "03000000", "04000000"], true],
  ["BPF_MAP_TYPE_LRU_HASH", { map_flags: [] }, ["01000000", "02000000", "03000000", "04000000", "05000000"], true],
  ["BPF_MAP_TYPE_ARRAY", { map_flags: [] }, ["00000000", "01000000", "02000000", "03000000"], false],
  ["BPF_MAP_TYPE_LPM_TRIE", { key_size: 8 }, ["080000000a000000", "180000000a010200", "200000000a010203"], true],
];

for (const [type, attr, keys, canDelete] of KEYED)
  test(`a ${type} comes back to any moment of its life`, async (t) => {
    const { service, session, must, elements, restore } = await started(t);
    const steps = fc.array(fc.tuple(fc.constantFrom(...keys), fc.option(fc.integer({ min: 0, max: 255 }))), {
      minLength: 1,
      maxLength: 12,
    });
    await fc.assert(
      fc.asyncProperty(steps, fc.nat(), async (steps, pick) => {
        const { map_id: map, fd } = await must("POST", `${session}/maps`, { ...HASH, map_type: type, ...attr });
        const created = service.log.lastSeq;
        for (const [key, value] of steps)
          if (value !== null)
            await must("PUT", `/v1/maps/${map}/elements/${key}`, {
              value: `${Buffer.from([value]).toString("hex")}000000`,
            });
          else if (canDelete) await service.send("DELETE", `/v1/maps/${map}/elements/${key}`);
        const at = created + (pick % (service.log.lastSeq - created + 1));
        const wanted = await elements(map, at);
        const dry = await restore(map, { at, dry_run: true });
        const before = service.log.lastSeq;
        const done = await restore(map, { at, reason: "to be sure" });
        const same = JSON.stringify(await elements(map)) === JSON.stringify(wanted);
        const again = await restore(map, { at });
        await must("DELETE", `${session}/fds/${fd}`);
        return (
          same &&
          JSON.stringify(dry.commands) === JSON.stringify(done.commands) &&
          (done.command_count === 0 || done.first_seq === before + 1) &&
          again.command_count === 0
        );
      }),
      { seed: SEED, numRuns: 40 },
    );
    t.pass("40 lives");
  });

test("a dry run does nothing and says all; a run does it as one, each event with the reason", async (t) => {
  const { service, session, must, elements, restore } = await started(t);
  await must("POST", `${session}/maps`, HASH);
  const { seq: at } = await must("PUT", "/v1/maps/1/elements/01000000", { value: "0a000000" });
  await must("PUT", "/v1/maps/1/elements/01000000", { value: "0b000000" });
  const { seq: last } = await must("PUT", "/v1/maps/1/elements/02000000", { value: "0c000000" });
  const dry = await restore(1, { at, dry_run: true, reason: "a test" });
  t.match(dry, { map: 1, at, dry_run: true, added: 0, changed: 1, removed: 1, command_count: 2, first_seq: null });
  t.match(dry.commands, [
    { cmd: "BPF_MAP_UPDATE_BATCH", map: 1, key: "01000000", value: "0a000000", attr: { count: 1 } },
    { cmd: "BPF_MAP_DELETE_BATCH", map: 1, key: "02000000", attr: { count: 1 } },
  ]);
  t.equal(service.log.lastSeq, last);
  const done = await restore(1, { at: String(at), reason: "a test" });
  t.match(done, { dry_run: false, first_seq: last + 1, last_seq: last + 2, created: null });
  t.same(await elements(1), [{ key: "01000000", value: "0a000000" }]);
  const { events } = await must("GET", `/v1/events?after=${last}&limit=2`);
  for (const event of events) t.match(event.attr.restore, { map: 1, at, reason: "a test" });
  t.same((await must("GET", "/v1/maps/1/elements/02000000/history")).versions.length, 2);
});

test("a queue and a stack come back in their order", async (t) => {
  const { session, must, elements, restore } = await started(t);
  for (const [map, type] of [
    [1, "BPF_MAP_TYPE_QUEUE"],
    [2, "BPF_MAP_TYPE_STACK"],
  ] as const) {
    await must("POST", `${session}/maps`, { ...HASH, map_type: type, key_size: 0, map_flags: [] });
    await must("POST", `/v1/maps/${map}/push`, { value: "01000000" });
    await must("POST", `/v1/maps/${map}/push`, { value: "02000000" });
    const { seq: at } = await must("POST", `/v1/maps/${map}/push`, { value: "03000000" });
    await must("POST", `/v1/maps/${map}/pop`);
    await must("POST", `/v1/maps/${map}/push`, { value: "09000000" });
    t.match(await restore(map, { at }), { added: 3, removed: 3 });
    const values = (await elements(map)).map(({ value }: { value: string }) => value);
    t.same(values, ["01000000", "02000000", "03000000"]);
    t.equal((await must("POST", `/v1/maps/${map}/pop`)).value, map === 1 ? "01000000" : "03000000");
  }
});

test("a map that has been freed is created again, frozen and pinned as it was", async (t) => {
  const { session, must, elements, restore } = await started(t);
  await must("POST", `${session}/maps`, { ...HASH, map_name: "kept", max_entries: 7 });
  await must("PUT", "/v1/maps/1/elements/01000000", { value: "0a000000" });
  await must("POST", "/v1/maps/1/pin", { pathname: "/sys/fs/bpf/kept" });
  const { seq: at } = await must("POST", "/v1/maps/1/freeze");
  await must("DELETE", "/v1/pins/%2Fsys%2Ffs%2Fbpf%2Fkept");
  await must("DELETE", session);
  const { created, commands, added } = await restore(1, { at });
  t.same([created, added], [{ map_id: 2, fd: null }, 1]);
  t.same(
    commands.map(({ cmd }: { cmd: string }) => cmd),
    ["SESSION_OPEN", "BPF_MAP_CREATE", "BPF_MAP_UPDATE_BATCH", "BPF_MAP_FREEZE", "BPF_OBJ_PIN", "SESSION_END"],
  );
  t.match(await must("GET", "/v1/maps/name:kept"), {
    id: 2,
    max_entries: 7,
    frozen: true,
    holds: 1,
    pinned: ["/sys/fs/bpf/kept"],
  });
  t.same(await elements(2), [{ key: "01000000", value: "0a000000" }]);
  t.same((await must("GET", "/v1/sessions")).sessions, [], "the restore's session has ended");
});

test("a session gets a descriptor of a map that is created again", async (t) => {
  const { service, session, must, restore } = await started(t);
  const { fd } = await must("POST", `${session}/maps`, HASH);
  const { seq: at } = await must("PUT", "/v1/maps/1/elements/01000000", { value: "0a000000" });
  await must("DELETE", `${session}/fds/${fd}`);
  const none = await service.send("POST", "/v1/maps/1/restore", { at });
  t.match(none.json(), { errno: "EINVAL", detail: /was not pinned then: name a session/ });
  const { created } = await restore(1, { at, session: 1 });
  t.same(created, { map_id: 2, fd: 3 });
  t.equal((await must("GET", `${session}/fds/3/elements/01000000`)).value, "0a000000");
  const before = service.log.lastSeq;
  const unknown = await service.send("POST", "/v1/maps/1/restore", { at, session: 99 });
  t.equal(unknown.statusCode, 404);
  t.match(unknown.json(), { type: "urn:mapledger:problem:no-such-session" });
  t.equal(service.log.lastSeq, before, "nothing has happened");
  t.equal((await service.send("GET", "/v1/maps/3")).statusCode, 404);
});

test("a map of maps comes back to the maps that it held, by commands that all tell of the restore", async (t) => {
  const { service, session, must, elements, restore } = await started(t);
  const inner = await must("POST", `${session}/maps`, HASH);
  const other = await must("POST", `${session}/maps`, HASH);
  const outer = { ...HASH, map_type: "BPF_MAP_TYPE_HASH_OF_MAPS", inner_map_fd: inner.fd };
  const { map_id: map, fd } = await must("POST", `${session}/maps`, outer);
  const put = (key: string, inner: number) =>
    must("PUT", `${session}/fds/${fd}/elements/${key}`, { value: `0${inner}000000` });
  await put("01000000", inner.fd);
  const { seq: at } = await put("02000000", other.fd);
  await put("01000000", other.fd);
  await must("DELETE", `${session}/fds/${fd}/elements/02000000`);
  const after = service.log.lastSeq;
  t.match(await restore(map, { at }), { added: 1, changed: 1 });
  const { events } = await must("GET", `/v1/events?after=${after}`);
  const marks = events.map(({ cmd, attr }: { cmd: string; attr: { restore?: { map: number } } | null }) => [
    cmd,
    attr?.restore?.map,
  ]);
  t.ok(
    marks.some(([cmd]: [string]) => cmd === "CLOSE"),
    "its session closes what it has",
  );
  t.same(
    marks.filter(([, of]: [string, number]) => of !== map),
    [],
  );
  t.same(await elements(map), await elements(map, at));
  t.equal((await must("GET", "/v1/sessions")).sessions.length, 1);
});

test("a map of more maps than a session has descriptors comes back", async (t) => {
  const { service, session, must, elements, restore } = await started(t);
  const template = await must("POST", `${session}/maps`, HASH);
  const attr = { ...HASH, map_type: "BPF_MAP_TYPE_HASH_OF_MAPS", inner_map_fd: template.fd, max_entries: 1100 };
  const [emptied, keeper] = [await must("POST", `${session}/maps`, attr), await must("POST", `${session}/maps`, attr)];
  const keys = Array.from({ length: attr.max_entries }, (_, number) => u32(number));
  for (const key of keys) {
    const inner = await must("POST", `${session}/maps`, HASH);
    for (const { fd } of [emptied, keeper])
      await must("PUT", `${session}/fds/${fd}/elements/${key}`, { value: u32(inner.fd) });
    await must("DELETE", `${session}/fds/${inner.fd}`);
  }
  const at = service.log.lastSeq;
  await must("POST", `${session}/fds/${emptied.fd}/batch/delete`, { keys });
  t.match(await restore(emptied.map_id, { at }), { added: keys.length });
  t.same(await elements(emptied.map_id), await elements(emptied.map_id, at));
});

test("what no command can bring back is refused, and nothing happens", async (t) => {
  const { service, session, must } = await started(t);
  const refused = async (map: number, at: number, status: number, detail: RegExp) => {
    const before = service.log.lastSeq;
    const response = await service.send("POST", `/v1/maps/${map}/restore`, { at });
    t.equal(response.statusCode, status);
    t.match(response.json().detail, detail);
    t.equal(service.log.lastSeq, before);
  };
  await must("POST", `${session}/maps`, { ...HASH, map_type: "BPF_MAP_TYPE_BLOOM_FILTER", key_size: 0, map_flags: [] });
  const bloom = service.log.lastSeq;
  await must("POST", "/v1/maps/1/push", { value: "01000000" });
  await refused(1, bloom, 400, /1 values have been added since/);

  await must("POST", `${session}/maps`, HASH);
  const { seq: at } = await must("PUT", "/v1/maps/2/elements/01000000", { value: "0a000000" });
  await must("PUT", "/v1/maps/2/elements/01000000", { value: "0b000000" });
  await must("POST", "/v1/maps/2/freeze");
  await refused(2, at, 403, /frozen/);
  await refused(2, 1, 400, /did not exist right after event 1/);
  await refused(2, 1000, 404, /there is no event 1000/);
  await refused(9, 1, 404, /there is no map 9/);
});

test("a program that looks up while a map is restored finds the old or the new: what comes back is written first", async (t) => {
  const { session, must, restore } = await started(t);
  const trie = { ...HASH, map_type: "BPF_MAP_TYPE_LPM_TRIE", key_size: 8, map_flags: ["BPF_F_NO_PREALLOC"] };
  const narrow = ["190000000a010200", "190000000a010280"];
  const wide = "180000000a010200";
  for (const [max_entries, order] of [
    [3, ["BPF_MAP_UPDATE_BATCH", "BPF_MAP_DELETE_BATCH"]],
    [2, ["BPF_MAP_DELETE_BATCH", "BPF_MAP_UPDATE_BATCH"]],
  ] as const) {
    const { map_id: map } = await must("POST", `${session}/maps`, { ...trie, max_entries });
    for (const key of narrow) await must("PUT", `/v1/maps/${map}/elements/${key}`, { value: "01000000" });
    const { seq: at } = await must("GET", `/v1/maps/${map}/elements/${narrow[0]}`);
    for (const key of narrow) await must("DELETE", `/v1/maps/${map}/elements/${key}`);
    await must("PUT", `/v1/maps/${map}/elements/${wide}`, { value: "01000000" });
    const { commands } = await restore(map, { at });
    t.same(
      commands.map(({ cmd }: { cmd: string }) => cmd),
      order,
      `of ${max_entries}`,
    );
  }
});

test("a restore of more elements than the setting allows is E2BIG, and changes nothing; asking what it would do is not", async (t) => {
  const service = await Service.start(t, { settings: { restoreElementsMax: 3 } });
  await service.map(await service.session(), { max_entries: 10 });
  const at = service.log.lastSeq;
  for (const key of ["01000000", "02000000", "03000000", "04000000"])
    await service.send("PUT", `/v1/maps/1/elements/${key}`, { value: "01000000" });
  const before = service.log.lastSeq;
  const refused = await service.send("POST", "/v1/maps/1/restore", { at });
  t.match(refused.json(), {
    status: 409,
    errno: "E2BIG",
    detail: /^4 elements .* the 3 elements, and a KiB for each, that MAPLEDGER_RESTORE_MAX allows$/,
  });
  t.equal(service.log.lastSeq, before);
  t.match((await service.send("POST", "/v1/maps/1/restore", { at, dry_run: true })).json(), { removed: 4 });
  t.match((await service.send("POST", "/v1/maps/1/restore", { at: at + 1 })).json(), { removed: 3 });

  const fd = await service.map(await service.session(), { value_size: 4096 });
  const empty = service.log.lastSeq;
  await service.send("PUT", `${fd}/elements/01000000`, { value: "01".repeat(4096) });
  const full = service.log.lastSeq;
  t.match((await service.send("POST", "/v1/maps/2/restore", { at: empty })).json(), { removed: 1 }, "a key is small");
  t.match((await service.send("POST", "/v1/maps/2/restore", { at: full })).json(), {
    errno: "E2BIG",
    detail: /^1 elements .* by commands of 4\d{3} bytes/,
  });
});
