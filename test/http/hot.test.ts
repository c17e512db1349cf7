import { test } from "tap";
import { Service } from "./service.ts";

/** What the hot path leaves to Fastify's routes, and what makes no difference to their answers. */
const UNUSUAL = { accept: "application/json, text/plain" };

test("single elements are answered alike by the hot path and by the routes", async (t) => {
  const authenticate = (token: string): string => token;
  const services = [await Service.start(t, { authenticate }), await Service.start(t, { authenticate })] as const;
  const both = async (method: string, path: string, payload?: unknown, caller = "alice"): Promise<void> => {
    const authorization = `Bearer ${caller}`;
    const hot = await services[0].send(method, path, payload, { authorization });
    const routed = await services[1].send(method, path, payload, { authorization, ...UNUSUAL });
    const seen = [hot, routed].map(({ statusCode, headers, body }) => [
      statusCode,
      headers["content-type"],
      headers["mapledger-seq"],
      headers["retry-after"],
      body,
    ]);
    t.same(seen[0], seen[1], `${method} ${path} ${JSON.stringify(payload)} ${hot.statusCode}`);
  };
  await both("POST", "/v1/sessions");
  const hash = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 4, max_entries: 2, map_flags: 1 };
  await both("POST", "/v1/sessions/1/maps", hash);
  await both("POST", "/v1/sessions/1/fds", { kind: "pipe" });
  for (const view of ["/v1/sessions/1/fds/3", "/v1/maps/1"])
    for (const [method, rest, payload] of [
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
      await both(method, `${view}/elements/${rest}`, payload);
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
