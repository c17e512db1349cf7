import { test } from "tap";
import { withMap } from "../with_map.ts";

test("an element's history has every version: writes by any command, deletions, and the end of the map", async (t) => {
  const { service, session, fd, send, get, put } = await withMap(t, {});
  const first = await put("01000000", "0a000000");
  await put("02000000", "ff000000");
  await get(`${fd}/elements/01000000`);
  const batch = await send("POST", "/v1/maps/1/batch/update", {
    elements: [
      { key: "02000000", value: "0c000000" },
      { key: "01000000", value: "0b000000" },
    ],
  });
  const gone = await send("DELETE", `${fd}/elements/01000000`);
  const again = await put("01000000", "0d000000");
  await send("DELETE", session);
  const freed = service.log.lastSeq - 1;
  const { map, versions, next, prev } = await get("/v1/maps/1/elements/01000000/history");
  t.same([map, next, prev], [1, null, null]);
  t.same(
    versions.map(({ time, ...version }: { time: string }) => version),
    [
      { seq: first, session: 1, caller: "anonymous", cmd: "BPF_MAP_UPDATE_ELEM", before: null, value: "0a000000" },
      {
        seq: batch,
        session: null,
        caller: "anonymous",
        cmd: "BPF_MAP_UPDATE_BATCH",
        before: "0a000000",
        value: "0b000000",
      },
      { seq: gone, session: 1, caller: "anonymous", cmd: "BPF_MAP_DELETE_ELEM", before: "0b000000", value: null },
      { seq: again, session: 1, caller: "anonymous", cmd: "BPF_MAP_UPDATE_ELEM", before: null, value: "0d000000" },
      { seq: freed, session: 1, caller: "anonymous", cmd: "CLOSE", before: "0d000000", value: null },
    ],
  );
  t.equal(versions[0].time, (await get(`/v1/events/${first}`)).time);
  t.same((await get("/v1/maps/1/elements/09000000/history")).versions, [], "a key that never was");
});

test("a history pages both ways, and both ways it is the same", async (t) => {
  const { get, put, send, fd } = await withMap(t, {});
  for (let round = 0; round < 9; round++) {
    await put("01000000", `0${round}000000`);
    await put("02000000", "00000000");
    if (round % 3 === 2) await send("DELETE", `${fd}/elements/01000000`);
  }
  const url = "/v1/maps/1/elements/01000000/history";
  const all = (await get(`${url}?limit=1000`)).versions;
  t.equal(all.length, 12);
  for (const limit of [1, 2, 5, 12]) {
    const on: object[] = [];
    for (let after: string | null = "0"; after !== null; ) {
      const page = await get(`${url}?after=${after}&limit=${limit}`);
      on.push(...page.versions);
      after = page.next;
    }
    t.same(on, all, `forth by ${limit}`);
    const back: object[] = [];
    for (let before: string | null = "1000000"; before !== null; ) {
      const page = await get(`${url}?before=${before}&limit=${limit}`);
      back.unshift(...page.versions);
      before = page.prev;
    }
    t.same(back, all, `back by ${limit}`);
  }
  const nothing = await get(`${url}?before=1`);
  t.match(nothing, { versions: [], prev: null }, "below the first event there is nothing");
  t.same((await get(`${url}?after=${nothing.next}`)).versions, all, "and behind that there is all");
});

test("histories of arrays begin with zeros, of tries go by the prefix, of queues by the place", async (t) => {
  const array = await withMap(t, { map_type: "BPF_MAP_TYPE_ARRAY", map_flags: [] });
  await array.put("02000000", "0a000000");
  t.match((await array.get("/v1/maps/1/elements/02000000/history")).versions, [
    { before: "00000000", value: "0a000000" },
  ]);

  const trie = await withMap(t, { map_type: "BPF_MAP_TYPE_LPM_TRIE", key_size: 8 });
  await trie.put("080000000a000000", "08000000");
  await trie.put("180000000a010200", "18000000");
  t.match((await trie.get("/v1/maps/1/elements/080000000a000000/history")).versions, [{ value: "08000000" }]);

  const queue = await withMap(t, { map_type: "BPF_MAP_TYPE_QUEUE", key_size: 0, map_flags: [] });
  await queue.send("POST", `${queue.fd}/push`, { value: "0a000000" });
  await queue.send("POST", `${queue.fd}/pop`);
  t.match((await queue.get("/v1/maps/1/elements/0000000000000001/history")).versions, [
    { before: null, value: "0a000000" },
    { before: "0a000000", value: null, cmd: "BPF_MAP_LOOKUP_AND_DELETE_ELEM" },
  ]);
});

test("what an LRU map lets go is in the history of what went", async (t) => {
  const { get, put } = await withMap(t, { map_type: "BPF_MAP_TYPE_LRU_HASH", max_entries: 1, map_flags: [] });
  await put("01000000", "0a000000");
  const other = await put("02000000", "0b000000");
  t.match((await get("/v1/maps/1/elements/01000000/history")).versions, [
    { value: "0a000000" },
    { seq: other, before: "0a000000", value: null },
  ]);
});

test("a diff counts and shows what was added, changed and removed, in pages", async (t) => {
  const { service, get, put, send, fd } = await withMap(t, { max_entries: 64 });
  const created = service.log.lastSeq;
  await put("01000000", "0a000000");
  await put("02000000", "0b000000");
  const from = await put("03000000", "0c000000");
  await put("01000000", "ff000000");
  await put("01000000", "0a000000");
  await put("02000000", "bb000000");
  await send("DELETE", `${fd}/elements/03000000`);
  const to = await put("04000000", "0d000000");
  await put("05000000", "0e000000");
  const diff = await get(`/v1/maps/1/diff?from=${from}&to=${to}`);
  t.match(diff, { map: 1, from, to, added: 1, changed: 1, removed: 1, next: null });
  t.same(
    new Map(diff.changes.map(({ key, before, after }: Record<string, string>) => [key, [before, after]])),
    new Map([
      ["02000000", ["0b000000", "bb000000"]],
      ["03000000", ["0c000000", null]],
      ["04000000", [null, "0d000000"]],
    ]),
  );
  t.match(await get(`/v1/maps/1/diff?from=${from}`), { to: to + 1, added: 2 }, "up to now");
  t.match(await get(`/v1/maps/1/diff?from=${to}&to=${from}`), { added: 1, changed: 1, removed: 1 }, "backwards");
  t.match(await get(`/v1/maps/1/diff?from=${created - 1}&to=${from}`), { added: 3 }, "from before there was a map");

  const paged: object[] = [];
  for (let next: string | null = ""; next !== null; ) {
    const page = await get(`/v1/maps/1/diff?from=${from}&to=${to}&limit=1${next === "" ? "" : `&after=${next}`}`);
    t.match(page, { added: 1, changed: 1, removed: 1 }, "counts are of all");
    paged.push(...page.changes);
    next = page.next;
  }
  t.same(paged, diff.changes);
});

test("a diff of a map that has been freed ends with nothing", async (t) => {
  const { session, get, put, send } = await withMap(t, { map_type: "BPF_MAP_TYPE_ARRAY", map_flags: [] });
  const put1 = await put("01000000", "0a000000");
  await send("DELETE", session);
  t.match(await get(`/v1/maps/1/diff?from=${put1}`), { added: 0, changed: 0, removed: 1 }, "what was written");
});

test("histories and diffs refuse keys of another length, moments to come, and maps that never were", async (t) => {
  const { get, put } = await withMap(t, {});
  await put("01000000", "0a000000");
  t.match(await get("/v1/maps/1/elements/0100/history"), {
    errno: "EINVAL",
    detail: "key has 2 bytes: this map's have 4",
  });
  t.match(await get("/v1/maps/7/elements/01000000/history"), { errno: "ENOENT", detail: "there is no map 7" });
  t.match(await get("/v1/maps/7/diff?from=1"), { errno: "ENOENT" });
  t.match(await get("/v1/maps/1/diff?from=99"), { type: "urn:mapledger:problem:no-such-event" });
  t.match(await get("/v1/maps/1/diff?from=soon"), { type: "urn:mapledger:problem:invalid-input" });
  t.match(await get("/v1/maps/1/diff?from=1&after=09000000"), { errno: "EINVAL" });
});
