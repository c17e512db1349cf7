import { test } from "tap";
import { withMap } from "../with_map.ts";

test("an element is told as of any seq, and reading it leaves no event", async (t) => {
  const { service, fd, send, get } = await withMap(t, {});
  const first = await send("PUT", `${fd}/elements/01000000`, { value: "0a000000" });
  const second = await send("PUT", `${fd}/elements/01000000`, { value: "0b000000" });
  const gone = await send("DELETE", `${fd}/elements/01000000`);
  for (const view of [fd, "/v1/maps/1"]) {
    t.same(await get(`${view}/elements/01000000?at=${first}`), { value: "0a000000", seq: first });
    t.same(await get(`${view}/elements/01000000?at=${second}`), { value: "0b000000", seq: second });
    t.match(await get(`${view}/elements/01000000?at=${gone}`), { errno: "ENOENT", seq: gone });
  }
  t.equal(
    (await service.send("GET", `/v1/maps/1/elements/01000000?at=${first}`)).headers["mapledger-seq"],
    String(first),
  );
  t.equal(service.log.lastSeq, gone);
});

test("a time stands for the last event at or before it", async (t) => {
  const { service, send, get } = await withMap(t, {});
  const first = await send("PUT", "/v1/maps/1/elements/01000000", { value: "0a000000" });
  await new Promise((resolve) => setTimeout(resolve, 5));
  await send("PUT", "/v1/maps/1/elements/01000000", { value: "0b000000" });
  const { time } = await get(`/v1/events/${first}`);
  t.match(await get(`/v1/maps/1/elements/01000000?at=${encodeURIComponent(time)}`), { value: "0a000000", seq: first });
  t.same(await get("/v1/maps?at=1999-01-01T00:00:00Z"), { maps: [], next: null }, "before the first event");
  t.match(await get("/v1/maps/1/elements/01000000?at=2999-01-01T00:00:00Z"), { value: "0b000000" });
  t.equal(service.log.lastSeq, 4);
});

test("an event that is yet to come is no moment, and neither is what is no seq and no time", async (t) => {
  const { service } = await withMap(t, {});
  const far = await service.send("GET", "/v1/maps/1/elements?at=1000");
  t.equal(far.statusCode, 404);
  t.match(far.json(), {
    type: "urn:mapledger:problem:no-such-event",
    detail: "there is no event 1000: the log ends at 2",
  });
  for (const at of ["yesterday", "-1", "1.5", "", "2026-13-01T00:00:00Z"]) {
    const wrong = await service.send("GET", `/v1/maps?at=${encodeURIComponent(at)}`);
    t.equal(wrong.statusCode, 400, at);
    t.match(wrong.json().detail, /^at: a seq, or a time/);
  }
});

test("a map that has been freed is told of, with its elements, as of when it lived", async (t) => {
  const { service, session, fd, send, get } = await withMap(t, { map_name: "gone" });
  await send("PUT", `${fd}/elements/01000000`, { value: "0a000000" });
  const pinned = await send("POST", `${fd}/pin`, { pathname: "/sys/fs/bpf/gone" });
  await send("DELETE", "/v1/pins/%2Fsys%2Ffs%2Fbpf%2Fgone");
  await send("DELETE", session);
  t.equal((await service.send("GET", "/v1/maps/1")).statusCode, 404);
  const map = await get(`/v1/maps/name:gone?at=${pinned}`);
  t.match(map, { id: 1, entries: 1, holds: 2, pinned: ["/sys/fs/bpf/gone"], mirror: { state: "off" } });
  t.match(await get(`/v1/maps?at=${pinned}`), { maps: [{ id: 1 }], next: null });
  t.same(await get(`/v1/pins?at=${pinned}`), { pins: [{ pathname: "/sys/fs/bpf/gone", map_id: 1 }], next: null });
  t.same(await get(`/v1/directories?at=${pinned}`), { directories: [], next: null });
  t.same((await get(`/v1/maps/pinned:%2Fsys%2Ffs%2Fbpf%2Fgone/elements?at=${pinned}`)).elements, [
    { key: "01000000", value: "0a000000" },
  ]);
  const lines = await service.send("GET", `/v1/maps/1/elements?at=${pinned}`, undefined, {
    accept: "application/x-ndjson",
  });
  t.equal(lines.body, '{"key":"01000000","value":"0a000000"}\n');
});

test("a session and its descriptors are told of as of when they were", async (t) => {
  const { service, session, send, get } = await withMap(t, {});
  const open = service.log.lastSeq;
  await send("DELETE", session);
  t.equal((await service.send("GET", session)).statusCode, 410);
  t.match(await get(`${session}?at=${open}`), { id: 1, lease: null, left_seconds: null, fd_count: 1 });
  t.match(await get(`/v1/sessions?at=${open}`), { sessions: [{ id: 1, name: "test" }], next: null });
  t.match(await get(`${session}/fds?at=${open}`), { fds: [{ fd: 3, kind: "map", map_id: 1 }] });
  t.match(await get(`${session}/fds/3?at=${open}`), { descriptor: { fd: 3 }, map: { id: 1 } });
  t.match(await get(`${session}/fds/3/elements?at=${open}`), { elements: [], seq: open });
  t.match(await get(`${session}?at=0`), { type: "urn:mapledger:problem:no-such-session" });
});

test("the longest prefix is that of then", async (t) => {
  const { service, fd, send, get } = await withMap(t, {
    map_type: "BPF_MAP_TYPE_LPM_TRIE",
    key_size: 8,
    map_flags: ["BPF_F_NO_PREALLOC"],
  });
  await send("PUT", `${fd}/elements/080000000a000000`, { value: "08000000" });
  const wide = service.log.lastSeq;
  const narrow = await send("PUT", `${fd}/elements/180000000a010200`, { value: "18000000" });
  t.equal((await get(`${fd}/elements/200000000a010203?at=${wide}`)).value, "08000000");
  t.equal((await get(`${fd}/elements/200000000a010203?at=${narrow}`)).value, "18000000");
  t.equal((await get(`${fd}/next-key?at=${wide}`)).next_key, "080000000a000000");
});

test("a queue's order and a bloom filter's members are those of then", async (t) => {
  const { service, session, fd, send, get } = await withMap(t, {
    map_type: "BPF_MAP_TYPE_QUEUE",
    key_size: 0,
    map_flags: [],
  });
  await send("POST", `${fd}/push`, { value: "01000000" });
  const two = await send("POST", `${fd}/push`, { value: "02000000" });
  const popped = await send("POST", `${fd}/pop`);
  const peek = async (at: number, body?: object) => (await service.send("POST", `${fd}/peek?at=${at}`, body)).json();
  t.match(await peek(two), { value: "01000000", seq: two });
  t.match(await peek(popped), { value: "02000000", seq: popped });
  t.equal((await get(`${fd}/elements?at=${two}`)).elements.length, 2);

  const bloom = await service.map(session, { map_type: "BPF_MAP_TYPE_BLOOM_FILTER", key_size: 0, map_flags: [] });
  const before = service.log.lastSeq;
  const added = await send("POST", `${bloom}/push`, { value: "07000000" });
  const ask = async (at: number) => service.send("POST", `${bloom}/peek?at=${at}`, { value: "07000000" });
  t.equal((await ask(before)).statusCode, 404);
  t.equal((await ask(added)).statusCode, 200);
});

test("memory is read as of then, in ranges, too", async (t) => {
  const { service, fd } = await withMap(t, { map_type: "BPF_MAP_TYPE_ARRAY", map_flags: ["BPF_F_MMAPABLE"] });
  const store = async (bytes: string): Promise<number> => {
    const response = await service.app.inject({
      method: "PUT",
      url: `${fd}/memory`,
      headers: { "content-type": "application/octet-stream" },
      payload: Buffer.from(bytes, "hex"),
    });
    return response.json().seq;
  };
  const first = await store("0102030405060708");
  await store("ffffffffffffffff");
  const then = await service.app.inject({ url: `${fd}/memory?at=${first}`, headers: { range: "bytes=1-2" } });
  t.equal(then.statusCode, 206);
  t.equal(then.rawPayload.toString("hex"), "0203");
});
