import { type Test, test } from "tap";
import { CMD } from "../../../src/abi/service.ts";
import { seqOf } from "../../support/messages.ts";
import { HASH, Service } from "../service.ts";

const NDJSON = { accept: "application/x-ndjson" };
const OCTETS = "application/octet-stream";
const PAIRS = 100_000;

/** A service with a session and a HASH of 4-byte keys and values, by descriptor and by id. */
async function furnish(
  t: Test,
  attr: object = {},
): Promise<{ service: Service; session: string; fd: string; map: string }> {
  const service = await Service.start(t);
  const session = await service.session();
  return { service, session, fd: await service.map(session, attr), map: "/v1/maps/1" };
}

const key = (number: number): string => number.toString(16).padStart(8, "0");
const element = (number: number) => ({ key: key(number), value: key(number * 2) });

test("openSession answers where it is, and endSession closes what it holds", async (t) => {
  const service = await Service.start(t);
  const opened = await service.send("POST", "/v1/sessions", { name: "loader", ttl_seconds: 500 });
  t.equal(opened.statusCode, 201);
  t.equal(opened.headers.location, "/v1/sessions/1");
  t.same(opened.json(), {
    id: 1,
    name: "loader",
    caller: "anonymous",
    ttl_seconds: 500,
    lease: "ttl",
    process: null,
    seq: 1,
  });
  await service.map("/v1/sessions/1");
  const session = (await service.send("GET", "/v1/sessions/1")).json();
  t.match(session, { id: 1, name: "loader", lease: "ttl", ttl_seconds: 500, fd_count: 1 });
  t.ok(session.left_seconds > 400 && session.left_seconds <= 500);
  t.same((await service.send("POST", "/v1/sessions/1/renew", { ttl_seconds: 50 })).json(), { seq: 3 });
  t.match((await service.send("GET", "/v1/sessions/1")).json(), { ttl_seconds: 50 });
  t.same((await service.send("POST", "/v1/sessions/1/renew")).json(), { seq: 4 }, "a body may be left out");
  t.same((await service.send("DELETE", "/v1/sessions/1")).json(), { seq: 6 });
  t.same(
    service.log.rows.slice(-2).map(({ cmd }) => cmd),
    [CMD.CLOSE, CMD.SESSION_END],
  );
  t.same((await service.send("GET", "/v1/maps")).json(), { maps: [], next: null });
});

test("lists come in pages", async (t) => {
  const { service, session, fd } = await furnish(t);
  await service.map(session);
  await service.session();
  for (const name of ["a", "b", "c"]) {
    await service.send("POST", `${fd}/pin`, { pathname: name });
    await service.send("PUT", `/v1/directories/${encodeURIComponent(`/sys/fs/bpf/in-${name}`)}`);
  }
  for (const [path, items, next] of [
    ["/v1/sessions", "sessions", 1],
    ["/v1/maps", "maps", 1],
    ["/v1/pins", "pins", "/sys/fs/bpf/a"],
    ["/v1/directories", "directories", "/sys/fs/bpf/in-a"],
    ["/v1/events", "events", 1],
  ] as const) {
    const first = (await service.send("GET", `${path}?limit=1`)).json();
    t.equal(first[items].length, 1);
    t.equal(path === "/v1/events" ? seqOf(first.next) : first.next, next);
    const rest = (await service.send("GET", `${path}?after=${encodeURIComponent(first.next)}`)).json();
    const all = (await service.send("GET", path)).json();
    t.same([...first[items], ...rest[items]].map(withoutClock), all[items].map(withoutClock), path);
    t.equal(rest.next, null);
  }
});

const withoutClock = (item: { left_seconds?: number } | string): unknown =>
  typeof item === "string" ? item : { ...item, left_seconds: null };

test("openDescriptor opens dups, pipes, files and maps", async (t) => {
  const { service, session, fd } = await furnish(t, { map_name: "twins" });
  await service.send("POST", `${fd}/pin`, { pathname: "/sys/fs/bpf/pin" });
  const rows = [
    [
      { kind: "dup", fd: 3 },
      { fd: 4, kind: "map", map_id: 1, object: null, access: "rw" },
    ],
    [{ kind: "pipe" }, { fd: 5, kind: "pipe", map_id: null, object: { id: 1 }, access: "rw" }],
    [{ kind: "file" }, { fd: 6, kind: "file", map_id: null, object: { id: 2, path: null }, access: "rw" }],
    [
      { kind: "map", map: 1 },
      { fd: 7, kind: "map", map_id: 1, object: null, access: "rw" },
    ],
    [
      { kind: "map", map: "1", access: "w" },
      { fd: 8, kind: "map", map_id: 1, object: null, access: "w" },
    ],
    [
      { kind: "map", map: "name:twins", access: "r" },
      { fd: 9, kind: "map", map_id: 1, object: null, access: "r" },
    ],
    [
      { kind: "map", map: "pinned:/sys/fs/bpf/pin", access: "r" },
      { fd: 10, kind: "map", map_id: 1, object: null, access: "r" },
    ],
  ] as const;
  for (const [body, descriptor] of rows) {
    const opened = await service.send("POST", `${session}/fds`, body);
    t.equal(opened.statusCode, 201);
    t.equal(opened.headers.location, `${session}/fds/${descriptor.fd}`);
    t.equal(opened.json().map_id, descriptor.map_id ?? undefined);
    const told = (await service.send("GET", `${session}/fds/${descriptor.fd}`)).json();
    t.same(told.descriptor, descriptor);
    t.equal(told.map?.id, descriptor.map_id ?? undefined);
  }
  const { fds } = (await service.send("GET", `${session}/fds`)).json();
  t.same(
    fds.slice(1),
    rows.map(([, descriptor]) => descriptor),
  );
  t.equal((await service.send("GET", `${session}/fds/8/elements/00000001`)).json().errno, "EPERM");
  t.equal((await service.send("PUT", `${session}/fds/9/elements/00000001`, { value: key(1) })).json().errno, "EPERM");
});

test("closeDescriptor tells which map went with it", async (t) => {
  const { service, session, fd } = await furnish(t);
  await service.send("POST", `${session}/fds`, { kind: "dup", fd: 3 });
  t.same((await service.send("DELETE", fd)).json(), { freed: [], seq: 4 });
  t.same((await service.send("DELETE", `${session}/fds/4`)).json(), { freed: [1], seq: 5 });
});

test("getMap tells what a map is, by id, name and pin", async (t) => {
  const { service, fd } = await furnish(t, { map_name: "counters", map_flags: 1 });
  await service.send("POST", `${fd}/pin`, { pathname: "counters" });
  await service.send("PUT", `${fd}/elements/00000001`, { value: key(1) });
  await service.send("POST", `${fd}/freeze`);
  for (const reference of ["1", "name:counters", "pinned:%2Fsys%2Ffs%2Fbpf%2Fcounters"])
    t.same((await service.send("GET", `/v1/maps/${reference}`)).json(), {
      id: 1,
      map_type: "BPF_MAP_TYPE_HASH",
      key_size: 4,
      value_size: 4,
      max_entries: 4,
      map_flags: ["BPF_F_NO_PREALLOC"],
      name: "counters",
      map_extra: "0",
      numa_node: null,
      mirror_shape: null,
      frozen: true,
      inner_map: null,
      btf: null,
      entries: 1,
      written: null,
      possible_cpus: null,
      holds: 2,
      pinned: ["/sys/fs/bpf/counters"],
      pins: 1,
      adopted: null,
      released: false,
      drift: null,
      mirror: { state: "off", detail: "no mirror in this test" },
    });
  t.match((await service.send("POST", "/v1/maps/name:counters/mirror/resync")).json(), { mirror: { state: "off" } });
});

test("elements are written, read and deleted below both views of a map", async (t) => {
  const { service, fd, map } = await furnish(t, { map_name: "m" });
  for (const base of [fd, map, "/v1/maps/name:m"]) {
    const one = `${base}/elements/00000001`;
    const octets = await service.send("PUT", one, Buffer.from("0000002a", "hex"), {
      "content-type": OCTETS,
      "if-none-match": "*",
    });
    t.equal(octets.statusCode, 200);
    t.equal(octets.headers["mapledger-seq"], String(octets.json().seq));
    t.equal((await service.send("PUT", one, { value: "0x0000002B" }, { "if-none-match": "*" })).statusCode, 409);
    t.equal((await service.send("PUT", one, { value: "0x0000002B" }, { "if-match": "*" })).statusCode, 200);
    t.equal((await service.send("PUT", one, { value: "0000002c", flags: "BPF_EXIST" })).statusCode, 200);
    t.equal((await service.send("PUT", one, { value: "0000002c", flags: ["BPF_ANY"] })).statusCode, 200);
    const json = await service.send("GET", `${base}/elements/0x00000001`);
    t.same(json.json(), { value: "0000002c", seq: service.log.lastSeq });
    const raw = await service.send("GET", one, undefined, { accept: `text/html, ${OCTETS};q=0.9, */*;q=0.1` });
    t.equal(raw.rawPayload.toString("hex"), "0000002c");
    t.equal(raw.headers["mapledger-seq"], String(service.log.lastSeq));
    t.match(await service.send("GET", one, undefined, { accept: `application/json, ${OCTETS}` }), { statusCode: 200 });
    t.equal((await service.send("GET", `${base}/next-key`)).json().next_key, "00000001");
    const end = await service.send("GET", `${base}/next-key?key=00000001`);
    t.match(end.json(), { status: 404, errno: "ENOENT", cmd: "BPF_MAP_GET_NEXT_KEY" });
    t.equal((await service.send("DELETE", one)).statusCode, 200);
    t.equal((await service.send("DELETE", one)).json().errno, "ENOENT");
    t.equal((await service.send("GET", one)).json().detail, "no element has this key");
  }
});

test("a map that is full says how full", async (t) => {
  const { service, fd } = await furnish(t);
  for (const number of [1, 2, 3, 4]) await service.send("PUT", `${fd}/elements/${key(number)}`, { value: key(1) });
  const full = await service.send("PUT", `${fd}/elements/${key(5)}`, { value: key(1) });
  t.match(full.json(), { status: 409, errno: "E2BIG", detail: "map is full: 4 of 4 entries", seq: 7 });
});

test("listElements gives pages, and the whole map in lines", async (t) => {
  const { service, fd, map } = await furnish(t, { max_entries: 100 });
  const elements = Array.from({ length: 25 }, (_, number) => element(number));
  await service.send("POST", `${fd}/batch/update`, { elements });
  const found: unknown[] = [];
  let after = "";
  for (let pages = 0; pages < 3; pages++) {
    const page = (await service.send("GET", `${map}/elements?limit=10${after}`)).json();
    found.push(...page.elements);
    after = `&after=${page.next}`;
    t.equal(page.next === null, pages === 2);
  }
  const byKey = (a: unknown, b: unknown): number => ((a as { key: string }).key < (b as { key: string }).key ? -1 : 1);
  t.same(found.sort(byKey), elements);
  const seq = service.log.lastSeq;
  const lines = await service.send("GET", `${fd}/elements?limit=1`, undefined, NDJSON);
  t.equal(lines.headers["mapledger-seq"], String(seq + 1));
  t.equal(service.log.lastSeq, seq + 1, "one command, so one moment");
  t.same(
    lines.body
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line))
      .sort(byKey),
    elements,
  );
});

test("batches walk, take out, write and delete", async (t) => {
  const { service, fd, map } = await furnish(t, { max_entries: 100 });
  const elements = Array.from({ length: 25 }, (_, number) => element(number));
  t.same((await service.send("POST", `${map}/batch/update`, { elements })).json(), { count: 25, seq: 3 });
  const found = [];
  let position: string | null = null;
  for (let end = false; !end; ) {
    const body: object = position === null ? { count: 10 } : { count: "10", in_batch: position };
    const page = (await service.send("POST", `${fd}/batch/lookup`, body)).json();
    t.equal(page.count, page.elements.length);
    found.push(...page.elements);
    ({ end, out_batch: position } = page);
  }
  t.equal(new Set(found.map((one: { key: string }) => one.key)).size, 25);
  const none = (await service.send("POST", `${fd}/batch/lookup`, { count: 0 })).json();
  t.same(none, { elements: [], count: 0, out_batch: null, end: false, seq: service.log.lastSeq });
  t.match((await service.send("POST", `${fd}/batch/delete`, { keys: [key(1), key(2)] })).json(), { count: 2 });
  const rest = (await service.send("POST", `${fd}/batch/lookup_and_delete`)).json();
  t.match(rest, { count: 23, end: true });
  const nothing = (await service.send("POST", `${fd}/batch/lookup_and_delete`)).json();
  t.match(nothing, { elements: [], count: 0, end: true });
  t.match((await service.send("POST", `${fd}/batch/update`, { elements: [] })).json(), { count: 0 });
});

test("a batch that is refused midway says how far it came", async (t) => {
  const { service, fd } = await furnish(t);
  const elements = [1, 2, 3, 4, 5, 6].map(element);
  const full = (await service.send("POST", `${fd}/batch/update`, { elements })).json();
  t.match(full, { status: 409, errno: "E2BIG", count: 4, cmd: "BPF_MAP_UPDATE_BATCH", seq: 3 });
  const missing = (await service.send("POST", `${fd}/batch/delete`, { keys: [key(1), key(9), key(2)] })).json();
  t.match(missing, { status: 404, errno: "ENOENT", count: 1 });
  t.equal((await service.send("GET", "/v1/maps/1")).json().entries, 3);
  await service.send("POST", `${fd}/freeze`);
  const frozen = (await service.send("POST", `${fd}/batch/delete`, { keys: [key(2)] })).json();
  t.match(frozen, { status: 403, errno: "EPERM", count: 0 }, "count is not what the kernel left as it was");
});

test(`${PAIRS} pairs are one request and one event`, async (t) => {
  const { service, fd, map } = await furnish(t, { max_entries: PAIRS, key_size: 8, value_size: 64 });
  const elements = Array.from({ length: PAIRS }, (_, number) => ({
    key: number.toString(16).padStart(16, "0"),
    value: number.toString(16).padStart(128, "0"),
  }));
  t.same((await service.send("POST", `${fd}/batch/update`, { elements })).json(), { count: PAIRS, seq: 3 });
  const lines = await service.send("GET", `${map}/elements`, undefined, NDJSON);
  t.equal(lines.body.split("\n").length, PAIRS + 1);
  const all = (await service.send("POST", `${map}/batch/lookup`, { count: PAIRS })).json();
  t.equal(all.elements.length, PAIRS);
  const keys = elements.map((one) => one.key);
  t.match((await service.send("POST", `${map}/batch/delete`, { keys })).json(), { count: PAIRS, seq: 6 });
});

test("push, pop and peek are commands without a key, which a hash refuses", async (t) => {
  const { service, fd, map } = await furnish(t);
  for (const base of [fd, map]) {
    t.match((await service.send("POST", `${base}/push`, { value: key(1) })).json(), { errno: "EFAULT", status: 400 });
    t.match((await service.send("POST", `${base}/pop`)).json(), { errno: "EFAULT" });
    t.match((await service.send("POST", `${base}/peek`)).json(), { errno: "EFAULT" });
  }
});

test("pins and directories are made, listed and removed", async (t) => {
  const { service, session, map } = await furnish(t);
  const directory = `/v1/directories/${encodeURIComponent("/sys/fs/bpf/app")}`;
  t.match((await service.send("PUT", directory)).json(), { pathname: "/sys/fs/bpf/app" });
  t.match((await service.send("POST", `${map}/pin`, { pathname: "app/./m" })).json(), {
    pathname: "/sys/fs/bpf/app/m",
  });
  t.same((await service.send("GET", "/v1/pins")).json().pins, [{ pathname: "/sys/fs/bpf/app/m", map_id: 1 }]);
  t.same((await service.send("GET", "/v1/directories")).json(), { directories: ["/sys/fs/bpf/app"], next: null });
  await service.send("DELETE", session);
  t.match((await service.send("GET", "/v1/maps/1")).json(), { holds: 1 }, "the pin holds it");
  t.match((await service.send("DELETE", directory)).json(), { errno: "ENOTEMPTY", status: 409 });
  t.equal((await service.send("DELETE", `/v1/pins/${encodeURIComponent("/sys/fs/bpf/app/m")}`)).statusCode, 200);
  t.equal((await service.send("GET", "/v1/maps/1")).statusCode, 404);
  t.equal((await service.send("DELETE", directory)).statusCode, 200);
});

test("a directory is made at its URL: a body that says what the machine has is not looked at", async (t) => {
  const { service } = await furnish(t);
  const directory = `/v1/directories/${encodeURIComponent("/sys/fs/bpf/app")}`;
  const made = await service.send("PUT", directory, { found: { errno: "EEXIST", detail: "" } });
  t.equal(made.statusCode, 200);
  t.equal(service.log.rows.at(-1)?.attr, '{"pathname":"/sys/fs/bpf/app","peer":"127.0.0.1"}');
});

test("bpf answers 200 whatever the errno, with what the kernel would have written", async (t) => {
  const { service, session } = await furnish(t);
  const bpf = async (cmd: string | number, attr?: object) =>
    (await service.send("POST", `${session}/bpf`, { cmd, attr })).json();
  t.same(await bpf("BPF_MAP_UPDATE_ELEM", { map_fd: 3, key: "01000000", value: "2a000000", flags: 0 }), {
    ret: 0,
    errno: null,
    seq: 3,
    attr: {},
  });
  t.same(await bpf(1, { map_fd: 3, key: "01000000" }), { ret: 0, errno: null, seq: 4, attr: { value: "2a000000" } });
  t.match(await bpf("BPF_MAP_LOOKUP_ELEM", { map_fd: 3, key: "02000000" }), {
    ret: -1,
    errno: "ENOENT",
    seq: 5,
    attr: {},
  });
  t.match(
    await bpf("BPF_MAP_LOOKUP_ELEM", { map_fd: 3, key: "0100000000" }),
    { ret: 0 },
    "what is longer is not looked at",
  );
  t.match(await bpf("BPF_MAP_LOOKUP_ELEM", { map_fd: 3, key: null }), { errno: "EFAULT" });
  t.match(await bpf("BPF_MAP_CREATE", { ...HASH, map_extra: "18446744073709551615" }), { errno: "EINVAL" });
  t.match(await bpf("BPF_OBJ_GET_INFO_BY_FD", { bpf_fd: 3, info_len: 8 }), {
    attr: { info: "0100000001000000", info_len: 8 },
  });
  for (const cmd of ["BPF_NONSENSE", "constructor", "SESSION_END", -1, 38, CMD.SESSION_END, CMD.CLOSE, 2 ** 31])
    t.match(await bpf(cmd), { ret: -1, errno: "EINVAL", attr: {} }, `${cmd}`);
  t.equal((await service.send("GET", session)).json().fd_count, 1);
});

test("events tell of all of it", async (t) => {
  const { service, fd } = await furnish(t, { map_name: "m" });
  await service.send("PUT", `${fd}/elements/00000001`, { value: key(1), flags: 1 });
  await service.send("GET", `${fd}/elements/00000002`);
  await service.send("GET", "/v1/maps/name:m/elements/00000001");
  const seqs = async (query: string): Promise<number[]> => {
    const page = (await service.send("GET", `/v1/events?${query}`)).json();
    const lines = (await service.send("GET", `/v1/events?${query}`, undefined, NDJSON)).body.split("\n").slice(0, -1);
    t.same(
      lines.map((line) => JSON.parse(line)),
      page.events,
      query,
    );
    return page.events.map(({ seq }: { seq: number }) => seq);
  };
  t.same(await seqs(""), [1, 2, 3, 4, 5]);
  t.same(await seqs("map=1"), [2, 3, 4, 5]);
  t.same(await seqs("map=name:m&errno=0&after=3"), [5]);
  t.same(await seqs("session=1"), [2, 3, 4]);
  t.same(await seqs("session=0"), [1, 5]);
  t.same(await seqs("cmd=BPF_MAP_LOOKUP_ELEM"), [4, 5]);
  t.same(await seqs("cmd=2"), [3]);
  t.same(await seqs("errno=ENOENT"), [4]);
  t.same(await seqs("key=0x00000001"), [3, 5]);
  t.same(await seqs("caller=nobody"), []);
  const event = (await service.send("GET", "/v1/events/3")).json();
  t.match(event, {
    seq: 3,
    session: 1,
    caller: "anonymous",
    cmd: "BPF_MAP_UPDATE_ELEM",
    map: 1,
    fd: 3,
    key: "00000001",
    value: "00000001",
    flags: "1",
    ret: 0,
    errno: null,
    detail: null,
    attr: null,
    out: null,
  });
  t.match(event.time, /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$/);
  t.ok((await seqs(`since=${encodeURIComponent(event.time)}`)).includes(3));
  t.ok((await seqs(`until=${encodeURIComponent(event.time)}`)).includes(3));
  t.same(await seqs("until=2001-01-01T00:00:00%2B02:00"), []);
  t.match((await service.send("GET", "/v1/events/4")).json(), {
    errno: "ENOENT",
    detail: "no element has this key",
    ret: -1,
  });
});

test("getMetrics counts commands by errno, and maps", async (t) => {
  const { service, fd } = await furnish(t, { map_name: "m" });
  await service.send("PUT", `${fd}/elements/00000001`, { value: key(1) });
  await service.send("GET", `${fd}/elements/00000002`);
  const { body, headers } = await service.send("GET", "/metrics");
  t.match(headers["content-type"], /^text\/plain; version=0\.0\.4/);
  t.match(body, 'mapledger_commands_total{cmd="BPF_MAP_UPDATE_ELEM",errno="0"} 1');
  t.match(body, 'mapledger_commands_total{cmd="BPF_MAP_LOOKUP_ELEM",errno="ENOENT"} 1');
  t.match(body, 'mapledger_map_entries{map="1",name="m"} 1');
  t.match(body, "mapledger_log_seq 4");
  t.match(body, "mapledger_batch_commands_count 4");
});

test("attachSession holds a session as long as the stream stands", async (t) => {
  const { service, session } = await furnish(t);
  const url = await service.app.listen({ host: "127.0.0.1", port: 0 });
  const lease = async (): Promise<string> => (await service.send("GET", session)).json().lease;

  const told = await fetch(`${url}${session}/attach`, { method: "POST" });
  t.equal(told.headers.get("content-type"), "application/x-ndjson");
  t.equal(await lease(), "attached");
  const stream = (told.body as ReadableStream<Uint8Array>).getReader();
  t.equal(Buffer.from((await stream.read()).value as Uint8Array).toString(), '{"session":1,"attached":true}\n');
  await service.send("DELETE", session);
  t.equal(Buffer.from((await stream.read()).value as Uint8Array).toString(), '{"session":1,"attached":false}\n');
  t.equal((await stream.read()).done, true);

  const second = await service.session();
  const breaking = new AbortController();
  await fetch(`${url}${second}/attach`, { method: "POST", signal: breaking.signal });
  breaking.abort();
  while ((await service.send("GET", second)).statusCode === 200) {
    service.engine.idle(true);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  t.match(service.log.rows.at(-1), { cmd: CMD.SESSION_END, attr: '{"reason":"attached stream broke"}' });

  const third = await service.session();
  const open = await fetch(`${url}${third}/attach`, { method: "POST" });
  await service.app.close();
  t.equal(await open.text(), '{"session":3,"attached":true}\n', "a stop does not wait for it");
  t.equal(service.engine.leases.view(3).lease, "attached", "and leaves its lease as it is");
});

test("the syscall door refuses what stands behind a command's last field, as bpf(2) does", async (t) => {
  const { service, session } = await furnish(t);
  const rows: readonly [body: object, errno: string | null, detail?: RegExp][] = [
    [{ size: 4097, tail: "01" }, "E2BIG", /size is 4097/],
    [{ tail: `${"00".repeat(168 - 32)}01` }, "E2BIG", /byte 168/],
    [{ tail: "0001" }, "EINVAL", /byte 33 .* end at 32/],
    [{ size: 4096, tail: "0000" }, "ENOENT"],
  ];
  for (const [raw, errno, detail] of rows) {
    const body = { cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd: 3, key: "ffffffff" }, ...raw };
    const answer = (await service.send("POST", `${session}/bpf`, body)).json();
    t.equal(answer.errno, errno);
    if (detail !== undefined) t.match(answer.detail, detail);
  }
  const unknown = { cmd: "BPF_PROG_LOAD", tail: `${"00".repeat(168)}01` };
  t.equal((await service.send("POST", `${session}/bpf`, unknown)).json().errno, "E2BIG", "before the command is known");
  const wrong = { cmd: "BPF_MAP_LOOKUP_ELEM", tail: "0x0" };
  t.match((await service.send("POST", `${session}/bpf`, wrong)).json(), {
    status: 400,
    detail: /^tail: an even number of hex digits/,
  });
});
