import { PassThrough, Readable } from "node:stream";
import { brotliCompressSync, deflateSync, gzipSync } from "node:zlib";
import { test } from "tap";
import { DOCUMENT, HASH, Service } from "../service.ts";

const JSON_TYPE = { "content-type": "application/json" };
const NDJSON = { "content-type": "application/x-ndjson" };
const BOM = "\ufeff";

/** What clients put in front of requests that have no body, whatever these are. */
const TYPES = [
  "application/json",
  "application/json; charset=utf-8",
  "application/x-www-form-urlencoded",
  "text/plain;charset=UTF-8",
  "application/octet-stream",
  "application/x-ndjson",
  "json",
  "",
];

interface Operation {
  readonly operationId: string;
  readonly requestBody?: { readonly required?: boolean };
}

type Paths = Readonly<Record<string, Readonly<Record<string, Operation>>>>;

/** Each operation of a method, with a path to what is not there. */
function operations(methods: readonly string[]): [method: string, path: string, Operation][] {
  const { paths } = DOCUMENT as unknown as { paths: Paths };
  return Object.entries(paths).flatMap(([path, byMethod]) =>
    Object.entries(byMethod)
      .filter(([method]) => methods.includes(method))
      .map(([method, operation]): [string, string, Operation] => [
        method.toUpperCase(),
        path.replace("{pathname}", "77%2F77").replace(/\{\w+\}/g, "77"),
        operation,
      ]),
  );
}

test("a content type without a body is no body, on every route", async (t) => {
  const service = await Service.start(t);
  for (const [method, path, { operationId }] of operations(["post", "put", "delete"])) {
    const answer = async (headers: Record<string, string>): Promise<string> => {
      const { statusCode, body } = await service.send(method, path, undefined, headers);
      return `${statusCode} ${body.replace(/"(seq|id)":\d+/g, "")}`;
    };
    const bare = await answer({});
    for (const type of TYPES)
      for (const length of [{}, { "content-length": "0" }] as Record<string, string>[]) {
        // No bytes are a value, and no lines a list, to routes that take these.
        if (type === "application/octet-stream" && /^(update|write|deleteBatch)/.test(operationId)) continue;
        if (type === "application/x-ndjson" && /^(import|updateBatch)/.test(operationId)) continue;
        t.equal(await answer({ ...length, "content-type": type }), bare, `${operationId} ${type}`);
      }
  }
});

test("a body that is only said to come in chunks is none either", async (t) => {
  const { service, fd } = await withMap(t);
  await service.send("PUT", `${fd}/elements/01000000`, { value: "01000000" });
  for (const path of [`${fd}/elements/01000000`, "/v1/maps/1/elements/02000000"]) {
    const { statusCode, body } = await chunked(service, "DELETE", path, JSON_TYPE);
    t.equal(statusCode, path.startsWith("/v1/maps") ? 404 : 200, body);
  }
  t.equal((await chunked(service, "POST", "/v1/sessions/1/renew", JSON_TYPE)).statusCode, 200);
  const text = await chunked(service, "POST", "/v1/sessions/1/renew", { "content-type": "text/plain" });
  t.equal(text.statusCode, 200, text.body);
});

test("a body that is missing, of another type, or no JSON is told what is to be sent", async (t) => {
  const { service, fd } = await withMap(t);
  const told = async (status: number, send: Parameters<Service["send"]>, ...words: string[]): Promise<void> => {
    const { statusCode, body } = await service.send(...send);
    t.equal(statusCode, status, body);
    for (const word of words) t.match(JSON.parse(body).detail, word, body);
  };
  const put = `${fd}/elements/01000000`;
  const form = { "content-type": "application/x-www-form-urlencoded" };
  await told(415, ["PUT", put, "value=01", form], "application/json", '{"value":"2a000000"}', "urlencoded");
  await told(415, ["POST", `${fd}/batch/delete`, "x", { "content-type": "text/plain" }], '{"keys":["01000000"');
  await told(415, ["PUT", `${fd}/memory`, "{}", JSON_TYPE], "required: application/octet-stream");
  await told(415, ["POST", `${fd}/freeze`, "x", form], "no body is allowed");
  await told(415, ["POST", "/v1/replays/import", "{}", JSON_TYPE], "required: application/x-ndjson");
  await told(415, ["PUT", put, Buffer.from('{"value":"01000000"}'), { "content-type": "" }], "application/json");
  await told(400, ["PUT", put], "body: required", '{"value":"2a000000"}');
  await told(400, ["POST", `${fd}/batch/update`], "body: required", '"elements"');
  await told(400, ["POST", "/v1/sessions/1/maps"], "body: required", "BPF_MAP_TYPE_HASH");
  await told(400, ["PUT", put, "value=01", JSON_TYPE], "the body is not JSON", '{"value":"2a000000"}');
  await told(400, ["POST", "/v1/sessions", "name=x", JSON_TYPE], "the body is not JSON", '"ttl_seconds"');
  const large = `{"elements":[${"x".repeat(100_000)}`;
  await told(400, ["POST", `${fd}/batch/update`, large, JSON_TYPE], "the body is not JSON", '"elements"');
});

test("a byte order mark in front of JSON is passed over", async (t) => {
  const { service, fd } = await withMap(t);
  for (const [method, path, body] of [
    ["PUT", `${fd}/elements/01000000`, '{"value":"01000000"}'],
    ["PUT", "/v1/maps/name:clients/elements/01000000", '{"value":"01000000"}'],
    ["POST", `${fd}/batch/update`, '{"elements":[{"key":"01000000","value":"01000000"}]}'],
    ["POST", `${fd}/batch/update`, `{"elements":[${Array(4000).fill('{"key":"01000000","value":"01000000"}')}]}`],
    ["POST", "/v1/sessions/1/renew", '{"ttl_seconds":60}'],
  ] as const) {
    const { statusCode, body: answer } = await service.send(method, path, BOM + body, JSON_TYPE);
    t.equal(statusCode, 200, answer);
  }
});

test("bodies that are packed are inflated, and count by what they are inflated to", async (t) => {
  const { service, fd } = await withMap(t, { bodyBytesMax: 1024 * 1024 });
  const elements = (count: number) =>
    JSON.stringify({ elements: Array(count).fill({ key: "01000000", value: "01000000" }) });
  const packed = [
    ["gzip", gzipSync],
    ["x-gzip", gzipSync],
    ["GZIP", gzipSync],
    ["deflate", deflateSync],
    ["identity", (text: string) => Buffer.from(text)],
  ] as const;
  for (const [encoding, pack] of packed) {
    const headers = { ...JSON_TYPE, "content-encoding": encoding };
    for (const path of [fd, "/v1/maps/name:clients"]) {
      const put = await service.send("PUT", `${path}/elements/01000000`, pack('{"value":"01000000"}'), headers);
      t.equal(put.statusCode, 200, `${encoding} ${put.body}`);
    }
    for (const count of [1, 5000]) {
      const batch = await service.send("POST", `${fd}/batch/update`, pack(elements(count)), headers);
      t.equal(batch.json().count, count, `${encoding} ${batch.body}`);
    }
    const octets = { "content-type": "application/octet-stream", "content-encoding": encoding };
    const put = await service.send("PUT", `${fd}/elements/02000000`, pack("\u0001\0\0\0"), octets);
    t.equal(put.statusCode, 200, put.body);
    const tooLarge = await service.send("POST", `${fd}/batch/update`, pack(elements(50_000)), headers);
    t.equal(tooLarge.statusCode, 413, `${encoding} ${tooLarge.body}`);
    t.equal(service.inFlight, 0);
  }
  const log = await service.app.inject({ url: "/v1/events", headers: { accept: "application/x-ndjson" } });
  const imported = await service.send("POST", "/v1/replays/import", gzipSync(log.body.split("\n")[0] as string), {
    ...NDJSON,
    "content-encoding": "gzip",
  });
  t.equal(imported.statusCode, 200, imported.body);
  const { headers, statusCode } = await service.send("DELETE", `${fd}/elements/01000000`, undefined, {
    ...JSON_TYPE,
    "content-encoding": "gzip",
  });
  t.equal(statusCode, 200, "nothing is nothing, however it is packed");
  t.notOk(headers["accept-encoding"]);
});

test("bodies that cannot be inflated are refused, and told how", async (t) => {
  const { service, fd } = await withMap(t, { bodyBytesMax: 1024 * 1024 });
  const path = `${fd}/elements/01000000`;
  const body = '{"value":"01000000"}';
  for (const encoding of ["br", "zstd", "compress", "gzip, gzip", "x"]) {
    const response = await service.send("PUT", path, brotliCompressSync(body), {
      ...JSON_TYPE,
      "content-encoding": encoding,
    });
    t.equal(response.statusCode, 415, response.body);
    t.match(response.json().detail, /gzip or deflate/);
    t.equal(response.headers["accept-encoding"], "gzip, deflate");
  }
  const gzip = { ...JSON_TYPE, "content-encoding": "gzip" };
  for (const broken of [Buffer.from(body), gzipSync(body).subarray(0, -5), Buffer.from("1f8b", "hex")]) {
    const response = await service.send("PUT", path, broken, gzip);
    t.equal(response.statusCode, 400, response.body);
    t.match(response.json().detail, /gzip/);
  }
  const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024));
  for (const [method, url] of [
    ["PUT", path],
    ["POST", `${fd}/batch/update`],
    ["POST", "/v1/sessions"],
    ["DELETE", path],
  ] as const)
    t.equal((await service.send(method, url, bomb, gzip)).statusCode, 413, url);
  const imported = { ...NDJSON, "content-encoding": "gzip" };
  const cut = await service.send("POST", "/v1/replays/import", gzipSync("{}\n").subarray(0, -5), imported);
  t.equal(cut.statusCode, 400, cut.body);
  t.equal((await service.send("POST", "/v1/replays/import", bomb, imported)).statusCode, 400);
  t.equal(service.inFlight, 0);
});

test("what inflates beyond the bytes in flight is refused", async (t) => {
  const { service, fd } = await withMap(t, { flightBytesMax: 256 * 1024 });
  const body = gzipSync(JSON.stringify({ elements: Array(8000).fill({ key: "01000000", value: "01000000" }) }));
  const send = () => service.send("POST", `${fd}/batch/update`, body, { ...JSON_TYPE, "content-encoding": "gzip" });
  t.equal((await send()).statusCode, 200);
  const held = new PassThrough();
  held.write(Buffer.alloc(200 * 1024, " "));
  const headers = { ...JSON_TYPE, "transfer-encoding": "chunked" };
  const other = service.app.inject({ method: "POST", url: `${fd}/batch/update`, headers, payload: held }).then();
  while (service.inFlight === 0) await new Promise((resolve) => setImmediate(resolve));
  t.equal((await send()).statusCode, 503);
  held.end();
  await other;
  t.equal((await send()).statusCode, 200);
  t.equal(service.inFlight, 0);
});

test("HEAD is what GET is, without a body, and opens no stream", async (t) => {
  const { service, fd } = await withMap(t);
  for (let at = 0; at < 4; at++) await service.send("PUT", `${fd}/elements/0${at}000000`, { value: "01000000" });
  const head = async (url: string, headers = {}) => service.app.inject({ method: "HEAD", url, headers });
  for (const [, path, { operationId }] of operations(["get"]))
    for (const url of [path, path.replaceAll("77", "1").replace("elements/1", "elements/01000000")]) {
      const { statusCode, headers, body, payload } = await head(url);
      t.equal(body, "", `${operationId} ${payload}`);
      t.equal(service.streams, 0);
      if (STREAMS.has(operationId)) continue;
      const got = await service.app.inject({ method: "GET", url });
      t.equal(statusCode, got.statusCode, `${operationId} ${url}`);
      t.equal(headers["content-type"], got.headers["content-type"], `${operationId} ${url}`);
    }
  for (const url of ["/v1/events/stream", "/v1/maps/1/watch"]) {
    const { statusCode, headers } = await head(url);
    t.equal(statusCode, 200);
    t.match(headers["content-type"], "text/event-stream");
  }
  t.equal((await head("/v1/maps/9/watch")).statusCode, 404);
  const log = service.log.rows.length;
  for (const url of ["/v1/events", `${fd}/elements`, "/v1/maps/name:clients/elements", "/v1/maps/1/watch"]) {
    const { statusCode, headers } = await head(url, { accept: "application/x-ndjson" });
    t.equal(statusCode, 200, url);
    t.match(headers["content-type"], "application/x-ndjson", url);
  }
  for (const { attr } of service.log.rows.slice(log)) t.match(attr, '"limit":1', "no whole map is read");
  t.equal(service.inFlight, 0);
  const { allow } = (await service.send("PATCH", "/v1/maps/1/elements/01000000")).headers;
  t.match(allow, "HEAD");
});

const STREAMS = new Set(["streamEvents", "watchMap"]);

test("the service's root leads to the page about it", async (t) => {
  const service = await Service.start(t, { tokens: { alice: "read" } });
  for (const method of ["GET", "HEAD"] as const) {
    const { statusCode, headers } = await service.app.inject({ method, url: "/" });
    t.equal(statusCode, 302);
    t.equal(headers.location, "/docs");
  }
  const { headers } = await service.app.inject({ url: "/docs" });
  t.match(headers["content-type"], "text/html");
});

test("a pin is named with its slashes as they are, too", async (t) => {
  const { service, fd } = await withMap(t);
  await service.send("PUT", "/v1/directories/%2Fsys%2Ffs%2Fbpf%2Fd");
  // Pins that are called like routes, and like an element.
  const pins = ["/sys/fs/bpf/x", "/sys/fs/bpf/d/elements", "/sys/fs/bpf/elements", "/sys/fs/bpf/d/01000000"];
  for (const pathname of pins) await service.send("POST", `${fd}/pin`, { pathname });
  await service.send("PUT", "/v1/maps/1/elements/01000000", { value: "2a000000" });
  const names = (pathname: string): string[] => {
    const relative = pathname.replace("/sys/fs/bpf/", "");
    return [
      `pinned:${encodeURIComponent(pathname)}`,
      `pinned%3A${encodeURIComponent(pathname)}`,
      `pinned:${pathname}`,
      `pinned%3a${pathname}`,
      `pinned:/${pathname}`,
      `pinned:${relative}`,
      `pinned:${encodeURIComponent(relative)}`,
    ];
  };
  const send = (method: string, url: string, payload?: object) =>
    service.app.inject({ method: method as "GET", url, ...(payload !== undefined && { payload }) });
  for (const name of pins.flatMap(names)) {
    const url = `/v1/maps/${name}`;
    t.equal((await send("GET", `${url}/elements?limit=5`)).json().elements?.length, 1, name);
    t.equal((await send("GET", `${url}/elements/01000000`)).json().value, "2a000000", name);
    t.equal((await send("GET", `${url}/elements/0x01000000`)).json().value, "2a000000", name);
    t.equal((await send("GET", `${url}/elements/01000000/history?limit=1`)).json().versions?.length, 1, name);
    t.equal((await send("GET", `${url}/next-key`)).json().next_key, "01000000", name);
    t.equal((await send("POST", `${url}/batch/lookup`)).json().count, 1, name);
    t.equal((await send("PUT", `${url}/elements/01000000`, { value: "2a000000" })).statusCode, 200, name);
    await send("DELETE", `${url}/elements/01000000`);
    t.same((await send("GET", "/v1/maps/1/elements")).json().elements, [], name);
    await send("PUT", "/v1/maps/1/elements/01000000", { value: "2a000000" });
    t.equal((await send("POST", `${url}/elements`)).statusCode, 405, name);
  }
  // A pin whose last name is a route's is named as it is by an encoded slash alone: unencoded it is the route.
  t.equal((await send("GET", "/v1/maps/pinned:/sys/fs/bpf/x")).json().id, 1);
  t.equal((await send("GET", "/v1/maps/pinned:/sys/fs/bpf/d/01000000")).json().id, 1);
  t.match((await send("GET", "/v1/maps/pinned:/sys/fs/bpf/d/elements")).json().detail, "pinned at /sys/fs/bpf/d");
  t.equal((await send("GET", "/v1/maps/pinned:/sys/fs/bpf/elements")).json().id, 1, "the bpffs is no map");
  t.equal((await send("GET", `/v1/maps/pinned:${encodeURIComponent("/sys/fs/bpf/d/elements")}`)).json().id, 1);
  t.equal((await send("GET", "/v1/maps/pinned:%2Fsys%2Ffs%2Fbpf%2Fx/nothing")).statusCode, 404);
  for (const empty of ["pinned:", "pinned%3A", "pinned:/"]) {
    const { status, detail } = (await send("POST", `/v1/maps/${empty}/mirror/resync`)).json();
    t.notSame(status, 405, `${empty}: the route answers, not the lack of one: ${detail}`);
  }
  t.equal((await send("GET", "/v1/events?map=pinned:/sys/fs/bpf/x")).statusCode, 200);
  t.equal((await send("PUT", "/v1/directories//sys/fs/bpf/d/e")).json().pathname, "/sys/fs/bpf/d/e");
  t.equal((await send("DELETE", "/v1/directories/d/e")).json().pathname, "/sys/fs/bpf/d/e");
  t.equal((await send("DELETE", "/v1/pins//sys/fs/bpf/x")).json().pathname, "/sys/fs/bpf/x");
  t.equal((await send("DELETE", "/v1/pins/d/elements")).json().pathname, "/sys/fs/bpf/d/elements");
  t.equal((await send("DELETE", "/v1/pins/elements")).json().pathname, "/sys/fs/bpf/elements");
});

test("a + that a query did not encode is one in a time's offset", async (t) => {
  const { service, fd } = await withMap(t);
  await service.send("PUT", `${fd}/elements/01000000`, { value: "01000000" });
  const far = "2099-01-01T02:00:00+02:00";
  for (const url of [
    `/v1/maps/1/elements?at=${far}`,
    `/v1/maps/1?at=${far}`,
    `/v1/events?since=2020-01-01T00:00:00+02:00&until=${far}`,
    `/v1/maps/1/diff?from=1&to=${far}`,
  ]) {
    const [raw, encoded] = [await service.send("GET", url), await service.send("GET", url.replaceAll("+", "%2B"))];
    t.equal(raw.statusCode, encoded.statusCode, raw.body);
    t.equal(raw.body, encoded.body);
  }
});

test("what a GET of elements gives out is taken back as it is", async (t) => {
  const { service, fd } = await withMap(t);
  const path = "/v1/maps/name:clients";
  for (let at = 1; at < 4; at++) await service.send("PUT", `${fd}/elements/0${at}000000`, { value: "0a000000" });
  const page = (await service.send("GET", `${path}/elements`)).json();
  const part = (await service.send("GET", `${path}/elements?limit=2`)).json();
  const batch = (await service.send("POST", `${path}/batch/lookup`)).json();
  const lines = (await service.send("GET", `${path}/elements`, undefined, { accept: NDJSON["content-type"] })).body;
  const elements = (text: string) => text.trim().split("\n");
  const forms: [body: object | string | Buffer, count: number, headers?: Record<string, string>][] = [
    [page, 3],
    [part, 2],
    [batch, 3],
    [lines, 3, NDJSON],
    [BOM + lines, 3, NDJSON],
    [lines.replaceAll("\n", "\r\n"), 3, NDJSON],
    [lines.replace("\n", "\n\n  \n"), 3, NDJSON],
    [lines.trimEnd(), 3, NDJSON],
    [elements(lines)[0] as string, 1, NDJSON],
    [lines.repeat(5000), 15_000, { "content-type": "application/x-ndjson; charset=utf-8" }],
    [gzipSync(lines), 3, { ...NDJSON, "content-encoding": "gzip" }],
    ["", 0, NDJSON],
  ];
  for (const [body, count, headers = {}] of forms)
    for (const view of [fd, path]) {
      const written = await service.send("POST", `${view}/batch/update`, body, headers);
      t.equal(written.statusCode, 200, written.body);
      t.equal(written.json().count, count);
    }
  t.same((await service.send("GET", `${path}/elements`)).json().elements, page.elements);
  const { length } = service.log.rows;
  for (const [body, where, headers = NDJSON] of [
    [`${lines}{"key":"01000000"}\n`, "line 4.value"],
    [`${lines}\n\n{"key":"01000000","value":"0a"}`, "line 6.value"],
    [`${lines}{"key":"01000000","value":"0a00000x"}`, "line 4.value"],
    [`${lines}{"key":"01000000","value":`, "line 4"],
    [`${lines}[]`, "line 4"],
    [`${lines}hello`, "line 4"],
    [`${lines}${"x".repeat(100_000)}`, "line 4"],
    [{ ...batch, count: 2 }, "count", {}],
    [{ ...page, pages: 2 }, "pages", {}],
  ] as const) {
    const refused = await service.send("POST", `${fd}/batch/update`, body, headers);
    t.equal(refused.statusCode, 400, refused.body);
    t.equal(refused.json().where, where);
  }
  t.equal((await service.send("POST", `${fd}/batch/delete`, lines, NDJSON)).statusCode, 415);
  t.equal(service.log.rows.length, length, "nothing was run");
});

test("elements that show ids are not taken for descriptors", async (t) => {
  const { service, session } = await withMap(t);
  // Descriptors and ids are other numbers: 4 is a descriptor of map 2, and 5 one of map 3.
  for (let at = 0; at < 4; at++) await service.map(session);
  for (const type of ["ARRAY_OF_MAPS", "HASH_OF_MAPS"]) {
    const outer = { map_type: `BPF_MAP_TYPE_${type}`, map_flags: 0, inner_map_fd: 3, max_entries: 2 };
    const fd = await service.map(session, outer);
    const { id } = (await service.send("GET", fd)).json().map;
    for (const at of [0, 1]) await service.send("PUT", `${fd}/elements/0${at}000000`, { value: `0${5 + at}000000` });
    const read = async (view: string) => (await service.send("GET", `${view}/elements`)).json();
    const before = await read(fd);
    t.match(before.elements[0], { value: /^0[34]000000$/, shows: "ids" });
    const lines = { accept: NDJSON["content-type"] };
    for (const view of [fd, `/v1/maps/${id}`]) {
      const forms: [unknown, Record<string, string>?][] = [
        [await read(view)],
        [{ elements: (await read(view)).elements }],
        [(await service.send("GET", `${view}/elements`, undefined, lines)).body, NDJSON],
        [(await service.send("POST", `${view}/batch/lookup`)).json()],
      ];
      for (const [body, headers] of forms) {
        const refused = await service.send("POST", `${view}/batch/update`, body, headers);
        t.equal(refused.statusCode, 400, refused.body);
        t.match(refused.json().detail, "an update takes a descriptor");
      }
    }
    t.same((await read(fd)).elements, before.elements);
  }
});

test("an element of a large value is taken back as a line", async (t) => {
  const { service, session } = await withMap(t);
  const fd = await service.map(session, { map_type: "BPF_MAP_TYPE_ARRAY", value_size: 300_000, map_flags: 0 });
  const value = "2a".repeat(300_000);
  const line = JSON.stringify({ key: "01000000", value });
  const written = await service.send("POST", `${fd}/batch/update`, `${line}\n${line}\n`, NDJSON);
  t.equal(written.json().count, 2, written.body.slice(0, 200));
  t.equal((await service.send("GET", `${fd}/elements/01000000`)).json().value, value);
});

/** A service with a hash at `fd`, which is called clients. */
async function withMap(t: Parameters<typeof Service.start>[0], settings = {}) {
  const service = await Service.start(t, { settings });
  const session = await service.session();
  const fd = await service.map(session, { ...HASH, map_name: "clients" });
  return { service, session, fd };
}

/** A request whose body has no bytes, and no length. */
function chunked(service: Service, method: string, url: string, headers: Record<string, string>) {
  const payload = Readable.from([]);
  const chunks = { ...headers, "transfer-encoding": "chunked" };
  return service.app.inject({ method: method as "GET", url, headers: chunks, payload });
}
