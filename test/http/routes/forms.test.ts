import { type Test, test } from "tap";
import { makeTypes } from "../../../src/typed/map_types.ts";
import { must } from "../../typed/subjects.ts";
import { Service } from "../service.ts";

const TYPES = {
  key: "u32",
  value: {
    packets: "u64",
    src: "inet_ip",
    port: "be16",
    fin: { "@struct": [{ name: "bit", bit: 0, bits: 3, type: "u16" }], bytes: 2 },
  },
};
const SIZES = { keySize: 4, valueSize: 16 };
const VALUE = { packets: "5", src: "10.0.0.1", port: 443, fin: { bit: 7 } };
const BYTES = "05000000000000000a00000101bb0700";

/** A service with a map of these types. */
async function withTypes(t: Test, types: object, sizes: { keySize: number; valueSize: number }, attr: object = {}) {
  const service = await Service.start(t);
  const session = await service.session();
  const isTrie = "map_type" in attr && attr.map_type === "BPF_MAP_TYPE_LPM_TRIE";
  const { blob, keyTypeId, valueTypeId } = must(makeTypes(types, { ...sizes, isTrie }, null));
  const ask = async (method: string, url: string, body?: object) => (await service.send(method, url, body)).json();
  const loaded = await ask("POST", `${session}/bpf`, {
    cmd: "BPF_BTF_LOAD",
    attr: { btf: blob.toString("hex"), btf_size: blob.length },
  });
  const fd = await service.map(session, {
    map_type: "BPF_MAP_TYPE_HASH",
    key_size: sizes.keySize,
    value_size: sizes.valueSize,
    max_entries: 8,
    btf_fd: loaded.ret,
    btf_key_type_id: keyTypeId,
    btf_value_type_id: valueTypeId,
    ...attr,
  });
  return { service, session, fd, ask };
}

test("a value that was written typed is read typed, formatted and as hex, by descriptor and by map", async (t) => {
  const { ask, fd, service } = await withTypes(t, TYPES, SIZES);
  t.match(await ask("PUT", `${fd}/elements/7?as=typed`, { typed: VALUE }), { seq: Number });
  for (const path of [fd, "/v1/maps/1"]) {
    t.match(await ask("GET", `${path}/elements/07000000`), { value: BYTES });
    t.match(await ask("GET", `${path}/elements/7?as=typed`), { value: BYTES, typed: { key: 7, value: VALUE } });
    const formatted = { packets: 5, src: [10, 0, 0, 1], port: 0xbb01, fin: { bit: "0x7" } };
    t.match(await ask("GET", `${path}/elements/07000000?as=formatted`), { formatted: { key: 7, value: formatted } });
    const element = { key: "07000000", value: BYTES };
    t.same((await ask("GET", `${path}/elements?as=typed`)).elements, [{ ...element, typed: { key: 7, value: VALUE } }]);
  }
  const lines = await service.send("GET", `${fd}/elements?as=typed`, undefined, { accept: "application/x-ndjson" });
  t.same(JSON.parse(lines.body), { key: "07000000", value: BYTES, typed: { key: 7, value: VALUE } });
  t.match(await ask("DELETE", `${fd}/elements/7?as=typed`), { seq: Number });
  t.match(await ask("GET", `${fd}/elements/7?as=typed`), { errno: "ENOENT" });
});

test("what is read in a form is written back to the same bytes, and forms must agree", async (t) => {
  const { ask, fd } = await withTypes(t, TYPES, SIZES);
  await ask("PUT", `${fd}/elements/01000000`, { value: BYTES });
  const { typed } = await ask("GET", `${fd}/elements/1?as=typed`);
  const { formatted } = await ask("GET", `${fd}/elements/01000000?as=formatted`);
  const ways = [{ typed: typed.value }, { formatted: formatted.value }, { typed: typed.value, value: BYTES }];
  for (const [at, body] of ways.entries()) {
    t.match(await ask("PUT", `${fd}/elements/${at + 2}?as=typed`, body), { seq: Number });
    t.match(await ask("GET", `${fd}/elements/${at + 2}?as=typed`), { value: BYTES });
  }
  const other = { value: BYTES.replace("05", "06"), typed: typed.value };
  t.match(await ask("PUT", `${fd}/elements/01000000?as=formatted`, other), {
    status: 400,
    detail: "value: the forms that were given are of different bytes",
  });
  t.match(await ask("GET", `${fd}/elements/01000000`), { value: BYTES });
});

test("wrong input names its place, and leaves no event", async (t) => {
  const { ask, fd, service } = await withTypes(t, TYPES, SIZES);
  const { lastSeq } = service.log;
  const { packets: _, ...without } = VALUE;
  const rows: readonly (readonly [path: string, body: object, detail: string | RegExp])[] = [
    ["01000000?as=formatted", { typed: { ...VALUE, fin: { bit: 8 } } }, "value.fin.bit: 0 to 7, found 8"],
    ["01000000?as=formatted", { typed: without }, /^value.*packets/],
    [
      "01000000?as=formatted",
      { typed: { ...VALUE, lst: 1 } },
      /^value: .*no member lst; it has packets, src, port, fin$/,
    ],
    ["01000000?as=formatted", { typed: 5 }, /^value: /],
    ["01000000?as=formatted", { formatted: { packets: 5 } }, /^value/],
    ["01000000", { typed: VALUE }, /^as: required for a body with a form/],
    ["01000000", {}, "value: a string of hex digits required, found undefined"],
    ["-1?as=typed", { typed: VALUE }, /^key: 0 to 4294967295, found/],
    ["%7B?as=typed", { typed: VALUE }, /^key: /],
    ["1?as=hex", { typed: VALUE }, "query.as: must be one of typed, formatted"],
  ];
  for (const [path, body, detail] of rows)
    t.match(
      await ask("PUT", `${fd}/elements/${path}`, body),
      { status: 400, detail },
      `${path} ${JSON.stringify(body)}`,
    );
  t.equal(service.log.lastSeq, lastSeq);
});

test("prefixes are keys in a path; a lone address is a prefix of all its bits", async (t) => {
  const trie = { map_type: "BPF_MAP_TYPE_LPM_TRIE", map_flags: 1 };
  const { ask, fd } = await withTypes(t, { key: "cidr4", value: "u32" }, { keySize: 8, valueSize: 4 }, trie);
  await ask("PUT", `${fd}/elements/10.0.0.0%2F8?as=typed`, { typed: 1 });
  await ask("PUT", `${fd}/elements/10.1.2.3?as=typed`, { typed: 2 });
  t.same(
    (await ask("GET", "/v1/maps/1/elements?as=typed")).elements.map(({ typed }: { typed: object }) => typed),
    [
      { key: "10.1.2.3/32", value: 2 },
      { key: "10.0.0.0/8", value: 1 },
    ],
  );
  t.match(await ask("GET", `${fd}/elements/10.9.9.9?as=typed`), { typed: { value: 1 } }, "the covering prefix");
});

test("bytes without a typed form say why; hex and the other form are there", async (t) => {
  const { ask, fd } = await withTypes(t, { key: "u32", value: { name: "string[8]" } }, { keySize: 4, valueSize: 8 });
  await ask("PUT", `${fd}/elements/01000000`, { value: "6162006300000000" });
  t.same((await ask("GET", `${fd}/elements?as=typed`)).elements, [
    { key: "01000000", value: "6162006300000000", typed: null, untyped: "value.name: bytes after NUL" },
  ]);
});

test("a map without types, a descriptor that is not open, another caller's session: the problem says so", async (t) => {
  const { service, ask, fd, session } = await withTypes(t, TYPES, SIZES);
  const plain = await service.map(session, {});
  for (const url of [`${plain}/elements?as=typed`, `${plain}/elements/01000000?as=typed`])
    t.match(await ask("GET", url), {
      status: 400,
      where: "as",
      detail: /^as: map 2 has no types: create it with btf_fd/,
    });
  t.match(await ask("PUT", `${plain}/elements/01000000?as=formatted`, { typed: 1 }), { status: 400, where: "as" });
  t.match(await ask("GET", `${session}/fds/99/elements?as=typed`), { errno: "EBADF" });
  t.match(await ask("GET", "/v1/maps/99/elements?as=typed"), { errno: "ENOENT" });
  t.match(await ask("GET", `${fd.replace("/sessions/1/", "/sessions/9/")}/elements?as=typed`), { status: 404 });
});

test("types are those of the moment that is asked for", async (t) => {
  const { ask, fd, service } = await withTypes(t, TYPES, SIZES);
  await ask("PUT", `${fd}/elements/1?as=typed`, { typed: VALUE });
  const { lastSeq } = service.log;
  await ask("DELETE", `${fd}/elements/01000000`);
  t.match(await ask("GET", `${fd}/elements/1?as=typed&at=${lastSeq}`), { typed: { key: 1, value: VALUE } });
  t.match(await ask("GET", `/v1/maps/1/elements?as=typed&at=${lastSeq}`), { elements: [{ typed: { value: VALUE } }] });
});

test("pages of many pieces", async (t) => {
  const { ask, fd } = await withTypes(t, TYPES, SIZES, { max_entries: 5000 });
  const elements = Array.from({ length: 5000 }, (_, at) => {
    const key = Buffer.alloc(4);
    key.writeUInt32LE(at);
    return { key: key.toString("hex"), value: BYTES };
  });
  await ask("POST", `${fd}/batch/update`, { elements });
  const page = await ask("GET", `${fd}/elements?as=typed&limit=5000`);
  t.equal(page.elements.length, 5000);
  t.ok(
    page.elements.every(
      ({ typed, key }: { typed: { key: number }; key: string }) => typed.key === Buffer.from(key, "hex").readUInt32LE(),
    ),
  );
});

test("a large value is taken whole in any form, up to a limit", async (t) => {
  const sizes = { keySize: 4, valueSize: 40_000 };
  const { ask, fd } = await withTypes(t, { key: "u32", value: "u16[20000]" }, sizes, { max_entries: 2 });
  const typed = Array.from({ length: 20_000 }, (_, at) => at);
  t.match(await ask("PUT", `${fd}/elements/1?as=typed`, { typed }), { seq: Number });
  t.same((await ask("GET", `${fd}/elements/1?as=typed`)).typed, { key: 1, value: typed });
  t.same((await ask("GET", `${fd}/elements?as=typed`)).elements[0].typed, { key: 1, value: typed });
  const tooLarge = { typed, padding: "x".repeat(1024 * 1024) };
  t.match(await ask("PUT", `${fd}/elements/1?as=typed`, tooLarge), { status: 413 });
});
