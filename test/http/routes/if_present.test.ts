import { test } from "tap";
import { withMap } from "../with_map.ts";

const key = (number: number): string => number.toString(16).padStart(8, "0");

test("a delete batch passes over keys without an element, if it is asked to", async (t) => {
  for (const attr of [
    { max_entries: 100 },
    { map_type: "BPF_MAP_TYPE_LRU_HASH", map_flags: 0, max_entries: 100 },
    { map_type: "BPF_MAP_TYPE_PERCPU_HASH", max_entries: 100 },
  ]) {
    const { service, fd, put, get } = await withMap(t, attr);
    const value = attr.map_type === "BPF_MAP_TYPE_PERCPU_HASH" ? "01".repeat(16) : "01".repeat(4);
    for (const view of [fd, "/v1/maps/1"]) {
      const send = async (body: object) => (await service.send("POST", `${view}/batch/delete`, body)).json();
      for (let at = 1; at <= 4; at++) await put(key(at), value);
      const keys = [key(9), key(1), key(8), key(3), key(1)];
      const refused = await send({ keys });
      t.match(refused, { errno: "ENOENT", count: 0 });
      t.match(await send({ keys, if_present: false }), { errno: "ENOENT" });
      const { seq, ...done } = await send({ keys, if_present: true });
      t.same(done, { count: 2, absent: 3 });
      t.match(await get(`/v1/events/${seq}`), {
        cmd: "BPF_MAP_DELETE_BATCH",
        key: key(1) + key(3),
        errno: null,
        attr: { count: 2, if_present: 5 },
        out: { count: 2 },
      });
      t.match(await get("/v1/maps/1"), { entries: 2 });
      t.match(await get(`/v1/maps/1/diff?from=${seq - 1}`), { removed: 2 });
      t.match(await send({ keys, if_present: true }), { count: 0, absent: 5 });
      t.match(await send({ keys: [], if_present: true }), { count: 0, absent: 0 });
      t.match(await send({ keys: [key(2), key(4)] }), { count: 2, absent: 0 });
    }
    t.match(await get("/v1/maps/1/elements"), { elements: [] });
  }
});

test("what is refused besides is refused as without", async (t) => {
  const { service, fd, put } = await withMap(t, {
    map_type: "BPF_MAP_TYPE_LPM_TRIE",
    key_size: 8,
    value_size: 1,
    max_entries: 8,
  });
  const send = async (body: object) => (await service.send("POST", `${fd}/batch/delete`, body)).json();
  const [ten, host, tooLong] = ["080000000a000005", "200000000a000005", "210000000a000005"];
  await put(ten, "01");
  await put(host, "01");
  const refused = await send({ keys: ["080000000b000000", host, "180000000a000000", tooLong, ten], if_present: true });
  t.match(refused, { errno: "EINVAL", count: 1 });
  const event = (await service.send("GET", `/v1/events/${refused.seq}`)).json();
  t.match(event, { key: host + tooLong + ten, attr: { count: 3, if_present: 5 }, out: { count: 1 } });
  // Other bits behind the prefix, and twice.
  const done = await send({ keys: ["080000000affffff", ten], if_present: true });
  t.match(done, { count: 1, absent: 1 });
  t.match(await send({ keys: ["00"], if_present: true }), { errno: "EINVAL" });
  t.match(await send({ keys: [ten], if_present: 1 }), { where: "if_present" });
  t.match(await send({ keys: [ten], if_present: true, elem_flags: 1 }), { errno: "EINVAL" });
  await service.send("POST", `${fd}/freeze`);
  t.match(await send({ keys: [ten], if_present: true }), { errno: "EPERM" });
});

test("one that runs in pieces tells of all of them", async (t) => {
  const { service, fd, get } = await withMap(t, { max_entries: 10_000 });
  const elements = Array.from({ length: 3000 }, (_, at) => ({ key: key(2 * at), value: "00000000" }));
  await service.send("POST", `${fd}/batch/update`, { elements });
  const keys = Array.from({ length: 6000 }, (_, at) => key(at));
  const { count, absent, seq } = (await service.send("POST", `${fd}/batch/delete`, { keys, if_present: true })).json();
  t.same({ count, absent }, { count: 3000, absent: 3000 });
  t.match(await get("/v1/maps/1"), { entries: 0 });
  t.match(await get(`/v1/events/${seq}`), { errno: null });
});

test("the syscall door has no such thing", async (t) => {
  const { service, session } = await withMap(t, {});
  const attr = { map_fd: 3, keys: key(1), count: 1, if_present: true };
  const refused = await service.send("POST", `${session}/bpf`, { cmd: "BPF_MAP_DELETE_BATCH", attr });
  t.equal(refused.statusCode, 400, refused.body);
});
