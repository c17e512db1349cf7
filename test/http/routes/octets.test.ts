import { gzipSync } from "node:zlib";
import { type Test, test } from "tap";
import { Service } from "../service.ts";
import { withMap } from "../with_map.ts";

const OCTETS = "application/octet-stream";
const SENT = { "content-type": OCTETS };
const ASKED = { accept: OCTETS };

const key = (number: number, bytes = 4): string =>
  number
    .toString(16)
    .padStart(8, "0")
    .padEnd(2 * bytes, "0");

/** The same elements in both forms. */
function forms(keys: readonly string[], values: readonly string[]) {
  const elements = keys.map((one, at) => ({ key: one, value: values[at] }));
  return { json: { elements }, octets: Buffer.from([...keys, ...values].join(""), "hex") };
}

/** A service to which batches go as JSON, and one to which they go as octets: both must have the same log. */
async function twins(t: Test, attr: object) {
  const json = await withMap(t, attr);
  const octets = await withMap(t, attr);
  const answers: string[] = [];
  const update = async (keys: readonly string[], values: readonly string[], flags = ""): Promise<object> => {
    const form = forms(keys, values);
    const body = flags === "" ? form.json : { ...form.json, elem_flags: flags };
    const query = flags === "" ? "" : `?elem_flags=${flags}`;
    const [one, other] = [
      await json.service.send("POST", `${json.fd}/batch/update`, body),
      await octets.service.send("POST", `${octets.fd}/batch/update${query}`, form.octets, SENT),
    ];
    return same(one, other);
  };
  const remove = async (keys: readonly string[], ifPresent = false): Promise<object> => {
    const [one, other] = [
      await json.service.send("POST", `${json.fd}/batch/delete`, { keys, if_present: ifPresent }),
      await octets.service.send(
        "POST",
        `${octets.fd}/batch/delete${ifPresent ? "?if_present=true" : ""}`,
        Buffer.from(keys.join(""), "hex"),
        SENT,
      ),
    ];
    return same(one, other);
  };
  const same = (one: { body: string; statusCode: number }, other: { body: string; statusCode: number }): object => {
    t.equal(other.body, one.body);
    t.equal(other.statusCode, one.statusCode);
    answers.push(other.body);
    return JSON.parse(other.body);
  };
  const freeze = async (): Promise<void> => {
    for (const { service, fd } of [json, octets]) await service.send("POST", `${fd}/freeze`);
  };
  const events = (): void => {
    const rows = ({ service }: typeof json) => service.log.rows.map((row) => ({ ...row, time_us: 0 }));
    t.same(rows(octets), rows(json), "both logs have the same events");
  };
  return { json, octets, update, remove, freeze, events };
}

test("an update and a deletion as octets are those of JSON, and so are their events", async (t) => {
  for (const [attr, valueBytes] of [
    [{ max_entries: 4 }, 4],
    [{ map_type: "BPF_MAP_TYPE_PERCPU_HASH", max_entries: 4, value_size: 5 }, 16],
    [{ map_type: "BPF_MAP_TYPE_LRU_HASH", map_flags: 0, max_entries: 100 }, 4],
    [{ map_type: "BPF_MAP_TYPE_ARRAY", map_flags: 0, max_entries: 4 }, 4],
    [{ map_type: "BPF_MAP_TYPE_QUEUE", map_flags: 0, key_size: 0, max_entries: 4 }, 4],
    [{ map_type: "BPF_MAP_TYPE_BLOOM_FILTER", map_flags: 0, key_size: 0, max_entries: 4 }, 4],
  ] as const) {
    const { update, remove, freeze, events } = await twins(t, attr);
    const value = (byte: number): string => Buffer.alloc(valueBytes, byte).toString("hex");
    await update([key(1), key(2), key(1)], [value(1), value(2), value(3)]);
    await update([], []);
    await remove([key(1), key(9), key(2)]);
    await remove([key(1), key(2), key(2)], true);
    await update([key(2)], [value(1)], "BPF_F_LOCK");
    await update(
      [1, 2, 3, 4, 5, 6].map((one) => key(one)),
      [1, 2, 3, 4, 5, 6].map(value),
    );
    await freeze();
    await update([key(1), key(2)], [value(1), value(2)]);
    await remove([key(1), key(2)]);
    if (!("key_size" in attr)) events();
  }
});

test("bytes that are left over are 400 with the sizes, and no event", async (t) => {
  const { service, fd } = await withMap(t, { key_size: 4, value_size: 8, max_entries: 100 });
  const before = service.log.lastSeq;
  const send = async (route: string, bytes: number) => {
    const { statusCode, body } = await service.send("POST", `${fd}/batch/${route}`, Buffer.alloc(bytes), SENT);
    return { statusCode, ...JSON.parse(body) };
  };
  for (const bytes of [1, 11, 13, 12 * 2000 + 7])
    t.match(await send("update", bytes), {
      statusCode: 400,
      type: "urn:mapledger:problem:invalid-input",
      where: "body",
      detail: `body: keys of 4 bytes and values of 8, 12 an element required, found ${bytes} bytes: ${bytes % 12} are left over`,
    });
  t.match(await send("delete", 5), {
    statusCode: 400,
    detail: "body: keys of 4 bytes required, found 5 bytes: 1 are left over",
  });
  t.equal(service.log.lastSeq, before);
  t.equal(service.inFlight, 0);
  const missing = await service.send("POST", `${fd.replace(/3$/, "9")}/batch/update`, Buffer.alloc(13), SENT);
  t.match(missing.json(), { errno: "EBADF", count: 0 });
  t.match(await send("update", 12), { count: 1 });
});

test("the sizes of a map are told to nobody who may not use it", async (t) => {
  const tokens = { ann: "read@a*,write@a*", bob: "read@b*,write@b*", eve: "read,write" };
  const service = await Service.start(t, { tokens });
  const as = (token: string) => ({ authorization: `Bearer ${token}` });
  const session = await service.session(as("ann"));
  const map = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 8, max_entries: 4, map_name: "a" };
  await service.send("POST", `${session}/maps`, map, as("ann"));
  for (const [token, path, type] of [
    ["bob", "/v1/maps/1", "urn:mapledger:problem:scope-missing"],
    ["eve", `${session}/fds/3`, "urn:mapledger:problem:session-foreign"],
  ] as const)
    for (const bytes of [13, 5000]) {
      const body = Buffer.alloc(bytes);
      const refused = await service.send("POST", `${path}/batch/update`, body, { ...as(token), ...SENT });
      t.match(refused.json(), { status: 403, type }, refused.body);
      t.notMatch(refused.body, "8", refused.body);
    }
});

test("a body that names elem_flags twice is refused", async (t) => {
  const { service, fd } = await withMap(t, { max_entries: 4 });
  const body = { elements: [{ key: key(1), value: key(1) }], elem_flags: 4 };
  const twice = await service.send("POST", `${fd}/batch/update?elem_flags=4`, body);
  t.match(twice.json(), { status: 400, where: "elem_flags" });
  const odd = await service.send("POST", `${fd}/batch/update?elem_flags=lock`, Buffer.alloc(8), SENT);
  t.match(odd.json(), { status: 400, where: "elem_flags" });
  const json = await service.send("POST", `${fd}/batch/delete?if_present=true`, { keys: [key(1)] });
  t.match(json.json(), { status: 400, where: "if_present" });
});

test("what a lookup answers as octets, an update takes", async (t) => {
  for (const map_type of ["BPF_MAP_TYPE_HASH", "BPF_MAP_TYPE_PERCPU_HASH"]) {
    const { service, session, fd } = await withMap(t, { map_type, value_size: 5, max_entries: 100 });
    const valueBytes = map_type === "BPF_MAP_TYPE_HASH" ? 5 : 16;
    const keys = Array.from({ length: 25 }, (_, at) => key(at));
    const { octets } = forms(
      keys,
      keys.map((_, at) => Buffer.alloc(valueBytes, at).toString("hex")),
    );
    await service.send("POST", `${fd}/batch/update`, octets, SENT);
    const copy = await service.map(session, { map_type, value_size: 5, max_entries: 100 });
    let position: string | undefined;
    let read = 0;
    for (let end = false; !end; ) {
      const body = { count: 10, ...(position !== undefined && { in_batch: position }) };
      const { headers, rawPayload } = await service.send("POST", `${fd}/batch/lookup`, body, ASKED);
      t.equal(headers["content-type"], OCTETS);
      t.equal(rawPayload.length, Number(headers["mapledger-count"]) * (4 + valueBytes));
      t.equal((await service.send("POST", `${copy}/batch/update`, rawPayload, SENT)).statusCode, 200);
      read += Number(headers["mapledger-count"]);
      position = headers["mapledger-out-batch"] as string;
      end = headers["mapledger-end"] === "true";
    }
    t.equal(read, 25);
    const all = async (path: string) => (await service.send("GET", `${path}/elements`)).json().elements;
    t.same(await all(copy), await all(fd));
    const taken = await service.send("POST", `${fd}/batch/lookup_and_delete`, { count: 100 }, ASKED);
    t.equal(taken.rawPayload.length, octets.length);
    const none = await service.send("POST", `${fd}/batch/lookup_and_delete`, { count: 100 }, ASKED);
    t.match(none, { statusCode: 200, body: "", headers: { "mapledger-count": "0", "mapledger-end": "true" } });
  }
});

test("octets that show ids say so", async (t) => {
  const { service, session } = await withMap(t, { max_entries: 4 });
  const outer = { map_type: "BPF_MAP_TYPE_HASH_OF_MAPS", value_size: 4, max_entries: 4, inner_map_fd: 3 };
  const fd = await service.map(session, outer);
  await service.send("PUT", `${fd}/elements/${key(1)}`, { value: "03000000" });
  const { headers } = await service.send("POST", `${fd}/batch/lookup`, {}, ASKED);
  t.equal(headers["mapledger-shows"], "ids");
});

test("octets have the bounds of all bodies", async (t) => {
  const service = await Service.start(t, { settings: { bodyBytesMax: 256 * 1024 } });
  const fd = await service.map(await service.session(), { max_entries: 100_000 });
  const packed = { ...SENT, "content-encoding": "gzip" };
  const send = async (body: Buffer, headers: Record<string, string>) =>
    (await service.send("POST", `${fd}/batch/update`, body, headers)).json();
  t.match(await send(gzipSync(Buffer.alloc(8 * 20_000)), packed), { count: 20_000 });
  t.match(await send(Buffer.alloc(8 * 32 * 1024), SENT), { count: 32 * 1024 });
  t.match(await send(Buffer.alloc(8 * 32 * 1024 + 1), SENT), { status: 413 });
  t.match(await send(gzipSync(Buffer.alloc(300 * 1024)), packed), { status: 413 });
  t.match(await send(Buffer.from("no gzip"), packed), { status: 400 });
  const lookup = await service.send("POST", `${fd}/batch/lookup`, Buffer.alloc(8), SENT);
  t.match(lookup.json(), { status: 415 });
  t.equal(service.inFlight, 0);
});
