import { once } from "node:events";
import { Agent, request } from "node:http";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { gzipSync } from "node:zlib";
import { type Test, test } from "tap";
import { fronted, WAYS } from "../fronts/fronted.ts";
import { Service, type ServiceOptions } from "../service.ts";

const JSON_TYPE = { "content-type": "application/json" };

/** The headers that tell of an answer. */
const TOLD = ["content-type", "mapledger-seq", "retry-after", "accept-encoding", "x-content-type-options"];

/** What the hot path leaves to Fastify's routes, and what makes no difference to their answers. */
const UNUSUAL = { accept: "application/json, text/plain" };

test("single elements are answered alike by the hot path, by the routes, and by an HTTP thread", async (t) => {
  const tokens = { alice: "read,write,pin", mallory: "read,write" };
  const services = [await listening(t, { tokens }), await listening(t, { tokens })] as const;
  const threaded = await fronted(t, await Service.start(t, { tokens }));
  const both = async (
    method: string,
    path: string,
    payload?: unknown,
    caller = "alice",
    more: Record<string, string> = {},
  ): Promise<void> => {
    const headers = { authorization: `Bearer ${caller}`, ...more };
    const hot = await ask(services[0], method, path, payload, headers);
    const routed = await ask(services[1], method, path, payload, { ...headers, ...UNUSUAL });
    const what = `${method} ${path} ${JSON.stringify(payload)} ${hot.status}`;
    t.same(hot, routed, what);
    t.same(await ask(threaded.url, method, path, payload, headers), hot, `${what}, by an HTTP thread`);
  };
  await both("POST", "/v1/sessions");
  const hash = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 4, max_entries: 2, map_flags: 1 };
  await both("POST", "/v1/sessions/1/maps", hash);
  await both("POST", "/v1/sessions/1/fds", { kind: "pipe" });
  for (const view of ["/v1/sessions/1/fds/3", "/v1/maps/1"])
    for (const [method, rest, payload, headers = {}] of [
      ["GET", "00000001"],
      ["PUT", "00000001", { value: "0000002a" }],
      ["PUT", "00000001", { value: "0x0000002A", flags: "BPF_NOEXIST" }],
      ["PUT", "00000001", { value: "0000002a", flags: 3 }],
      ["PUT", "00000001", '{"value": "0000002a"}', JSON_TYPE],
      ["PUT", "00000001", '{"value":  "0000002a"}', JSON_TYPE],
      ["PUT", "00000001", '{"value":"0000002a" }', JSON_TYPE],
      ["PUT", "00000001", '{"value":"0000002a"}}', JSON_TYPE],
      ["PUT", "00000001", '{"value":"0000002a"', JSON_TYPE],
      ["PUT", "00000001", '{"value":"}', JSON_TYPE],
      ["PUT", "00000001", '{"value":', JSON_TYPE],
      ["PUT", "00000001", '{"value":""}', JSON_TYPE],
      ["PUT", "00000001", '{"value":"0000002a","value":"0000002b"}', JSON_TYPE],
      ["PUT", "00000001", '{"value":"0000\\u0032a"}', JSON_TYPE],
      ["PUT", "00000001", { value: "0000002A" }],
      ["PUT", "00000001", { value: "2a" }],
      ["PUT", "00000001", { value: "2a000" }],
      ["PUT", "00000001", { value: 42 }],
      ["PUT", "00000001", { typed: 42 }],
      ["PUT", "00000001", { formatted: 42, value: "0000002a" }],
      ["PUT", "00000001?as=formatted", { typed: 42 }],
      ["GET", "00000001?as=typed"],
      ["PUT", "00000001", { value: "0000002a", ttl: 1 }],
      ["PUT", "00000001", []],
      ["PUT", "00000001"],
      ["PUT", "00000001", "value=2a", JSON_TYPE],
      ["PUT", "00000001", '\ufeff{"value":"0000002a"}', JSON_TYPE],
      ["PUT", "00000001", "\ufeff", JSON_TYPE],
      ["PUT", "00000001", "", JSON_TYPE],
      ["PUT", "00000001", gzipSync('{"value":"0000002a"}'), { ...JSON_TYPE, "content-encoding": "gzip" }],
      ["GET", "00000001", undefined, JSON_TYPE],
      ["DELETE", "00000001", undefined, JSON_TYPE],
      ["DELETE", "00000001", undefined, { ...JSON_TYPE, "content-length": "0" }],
      ["DELETE", "00000001", {}, JSON_TYPE],
      ["PUT", "00000002", { value: "0000002b" }],
      ["PUT", "00000003", { value: "0000002c" }],
      ["GET", "00000001"],
      ["GET", "000001"],
      ["GET", "0000000001"],
      ["GET", "0x00000001"],
      ["GET", "0000000g"],
      ["DELETE", "00000001"],
      ["DELETE", "00000001"],
      ["DELETE", "00000002"],
    ] as const)
      await both(method, `${view}/elements/${rest}`, payload, "alice", headers);
  for (const path of [
    "/v1/sessions/1/fds/4/elements/00000001",
    "/v1/sessions/1/fds/9/elements/00000001",
    "/v1/sessions/2/fds/3/elements/00000001",
    "/v1/sessions/0/fds/3/elements/00000001",
    "/v1/maps/2/elements/00000001",
    "/v1/maps/0/elements/00000001",
  ])
    for (const method of ["GET", "DELETE"]) await both(method, path);
  await both("GET", "/v1/sessions/1/fds/3/elements/00000001", undefined, "mallory");
  await both("DELETE", "/v1/sessions/1");
  await both("PUT", "/v1/sessions/1/fds/3/elements/00000001", { value: "0000002a" });
});

for (const [by, listen] of WAYS)
  test(`a token counts until it is taken back, also on a connection that it has opened, ${by}`, async (t) => {
    const service = await Service.start(t, { tokens: { first: "read,write", other: "read" } });
    const url = await listen(t, service);
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    t.teardown(() => agent.destroy());
    const status = async (token: string, method = "GET"): Promise<number | undefined> => {
      const headers = { authorization: `Bearer ${token}` };
      return (await ask(url, method, "/v1/maps/1/elements/00000001", undefined, headers, agent)).status;
    };
    t.equal(await status("first"), 404, "there is no map, but the caller is known");
    t.equal(await status("first"), 404);
    t.equal(await status("firsT"), 401, "a token of the same length, on the same connection");
    t.equal(await status("firs"), 401);
    t.equal(await status("first", "DELETE"), 404);
    t.equal(await status("other", "DELETE"), 403, "another caller on the same connection has its own scopes");
    t.equal(await status("first"), 404);
    service.setTokens({ first: "read", other: "read" });
    t.equal(await status("first", "DELETE"), 403, "scopes change at once");
    service.setTokens({ other: "read" });
    t.equal(await status("first"), 401, "and so does the token");
    t.equal(await status("other"), 404);
  });

for (const [by, listen] of WAYS)
  test(`a request that breaks off in its body is not run, and leaves its connection alone, ${by}`, async (t) => {
    const service = await Service.start(t);
    const session = await service.session();
    const map = await service.map(session);
    const { port } = new URL(await listen(t, service));
    const put = `PUT ${map}/elements/00000001 HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n`;
    const before = service.log.lastSeq;
    const socket = connect(Number(port), "127.0.0.1");
    socket.write(`${put}{"value":"0000`);
    await once(socket, "connect");
    socket.destroy();
    await once(socket, "close");
    const second = connect(Number(port), "127.0.0.1");
    t.teardown(() => second.destroy());
    for (const piece of [put, '{"value":', '"0000', '002a"}', `${put}{"value":"0000002b"}`]) {
      second.write(piece);
      await new Promise((resolve) => setImmediate(resolve));
    }
    let answers = "";
    while (answers.split("mapledger-seq").length < 3) answers += String((await once(second, "data"))[0]);
    t.same(answers.match(/HTTP\/1.1 \d+/g), ["HTTP/1.1 200", "HTTP/1.1 200"], "bodies in pieces, and two in a row");
    t.equal(service.log.lastSeq, before + 2, "only these two ran");
  });

for (const [by, listen] of WAYS)
  test(`pipelined requests that wait for others are answered in their order, and their bodies are not lost, ${by}`, async (t) => {
    const service = await Service.start(t);
    const map = await service.map(await service.session(), { max_entries: 200 });
    const { port } = new URL(await listen(t, service));
    const socket = connect(Number(port), "127.0.0.1");
    t.teardown(() => socket.destroy());
    const request = (method: string, key: number, body: string): string => {
      const path = `${map}/elements/${key.toString(16).padStart(8, "0")}`;
      const length = body === "" ? "" : `content-type: application/json\r\ncontent-length: ${body.length}\r\n`;
      return `${method} ${path} HTTP/1.1\r\nhost: localhost\r\n${length}\r\n${body}`;
    };
    const keys = Array.from({ length: 100 }, (_, key) => key);
    const value = (key: number): string => key.toString(16).padStart(8, "a");
    socket.write(
      keys.map((key) => request("PUT", key, `{"value":"${value(key)}"}`) + request("GET", key, "")).join(""),
    );
    let answers = "";
    while (answers.split("HTTP/1.1 200 OK").length <= 200) answers += String((await once(socket, "data"))[0]);
    t.same(
      [...answers.matchAll(/"value":"(\w+)"/g)].map(([, found]) => found),
      keys.map(value),
    );
  });

for (const [by, listen] of WAYS)
  test(`answers of the fast path say how long a connection is kept, and end it where they are asked to, ${by}`, async (t) => {
    const service = await Service.start(t);
    const map = await service.map(await service.session());
    const { port } = new URL(await listen(t, service));
    const raw = async (more: string): Promise<string> => {
      const socket = connect(Number(port), "127.0.0.1");
      socket.write(`DELETE ${map}/elements/00000001 HTTP/1.1\r\nhost: localhost\r\n${more}\r\n`);
      let answer = "";
      while (!/\r\n\r\n\{.*\}$/.test(answer)) answer += String((await once(socket, "data"))[0]);
      socket.destroy();
      return answer;
    };
    await service.send("PUT", `${map}/elements/00000001`, { value: "0000002a" });
    const kept = await raw("");
    t.match(kept, /^HTTP\/1.1 200 OK\r\n/);
    t.match(kept, /\r\nDate: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n/);
    t.match(kept, /\r\nConnection: keep-alive\r\nKeep-Alive: timeout=72\r\n\r\n\{"seq":\d+\}$/);
    await service.send("PUT", `${map}/elements/00000001`, { value: "0000002a" });
    t.match(await raw("connection: close\r\n"), /^HTTP\/1.1 200 OK\r\n[\s\S]*\r\nConnection: close\r\n/);
  });

/** Where a service listens: requests that are injected do not pass the hot path. */
async function listening(t: Test, options: ServiceOptions): Promise<string> {
  const { app } = await Service.start(t, options);
  return app.listen({ port: 0, host: "127.0.0.1" });
}

/** What is answered, but for what names the moment. */
async function ask(
  url: string,
  method: string,
  path: string,
  payload: unknown,
  headers: Record<string, string>,
  agent?: Agent,
) {
  const isText = typeof payload === "string" || Buffer.isBuffer(payload);
  const body = payload === undefined ? undefined : Buffer.from(isText ? payload : JSON.stringify(payload));
  const sent = {
    ...(body !== undefined && { "content-length": String(body.length) }),
    ...(body !== undefined && !isText && JSON_TYPE),
    ...headers,
  };
  return new Promise<{ status?: number; headers: object; body: string }>((resolve, reject) => {
    const sending = request(`${url}${path}`, { method, headers: sent, ...(agent && { agent }) }, async (response) => {
      const { statusCode: status, headers: all } = response;
      const told = Object.fromEntries(TOLD.map((name) => [name, all[name]]));
      resolve({ ...(status !== undefined && { status }), headers: told, body: await text(response) });
    });
    sending.once("error", reject).end(body);
  });
}
