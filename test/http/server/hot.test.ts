import { request } from "node:http";
import { text } from "node:stream/consumers";
import { gzipSync } from "node:zlib";
import { type Test, test } from "tap";
import { Service, type ServiceOptions } from "../service.ts";

const JSON_TYPE = { "content-type": "application/json" };

/** The headers that tell of an answer. */
const TOLD = ["content-type", "mapledger-seq", "retry-after", "accept-encoding", "x-content-type-options"];

/** What the hot path leaves to Fastify's routes, and what makes no difference to their answers. */
const UNUSUAL = { accept: "application/json, text/plain" };

test("single elements are answered alike by the hot path and by the routes", async (t) => {
  const authenticate = (token: string): string => token;
  const services = [await listening(t, { authenticate }), await listening(t, { authenticate })] as const;
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
    t.same(hot, routed, `${method} ${path} ${JSON.stringify(payload)} ${hot.status}`);
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
      ["PUT", "00000001", { value: "2a" }],
      ["PUT", "00000001", { value: "2a000" }],
      ["PUT", "00000001", { value: 42 }],
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

/** Where a service listens: requests that are injected do not pass the hot path. */
async function listening(t: Test, options: ServiceOptions): Promise<string> {
  const { app } = await Service.start(t, options);
  return app.listen({ port: 0, host: "127.0.0.1" });
}

/** What is answered, but for what names the moment. */
async function ask(url: string, method: string, path: string, payload: unknown, headers: Record<string, string>) {
  const isText = typeof payload === "string" || Buffer.isBuffer(payload);
  const body = payload === undefined ? undefined : Buffer.from(isText ? payload : JSON.stringify(payload));
  const sent = {
    ...(body !== undefined && { "content-length": String(body.length) }),
    ...(body !== undefined && !isText && JSON_TYPE),
    ...headers,
  };
  return new Promise<{ status?: number; headers: object; body: string }>((resolve, reject) => {
    const sending = request(`${url}${path}`, { method, headers: sent }, async (response) => {
      const { statusCode: status, headers: all } = response;
      const told = Object.fromEntries(TOLD.map((name) => [name, all[name]]));
      resolve({ ...(status !== undefined && { status }), headers: told, body: await text(response) });
    });
    sending.once("error", reject).end(body);
  });
}
