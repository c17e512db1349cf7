import { test } from "tap";
import { EngineBusy, EngineClosed, EngineLost } from "../../../src/engine/client.ts";
import { LogUncertain } from "../../../src/engine/ports.ts";
import { HASH, Service } from "../service.ts";

test("what the machine fails is told apart, and nothing has happened", async (t) => {
  const service = await Service.start(t);
  const session = await service.session();
  const create = () => service.send("POST", `${session}/maps`, HASH);
  const rows = [
    ["busy", 503, async () => Promise.reject(new EngineBusy(10_000, 5))],
    ["unavailable", 503, async () => Promise.reject(new EngineClosed())],
    ["outcome-unknown", 500, async () => Promise.reject(new EngineLost())],
    ["bug", 500, async () => Promise.reject(new Error("secret"))],
    ["bug", 500, async () => ({ failure: "bug", detail: "the command failed" }) as const],
  ] as const;
  for (const [name, status, fail] of rows) {
    service.failing = fail;
    const response = await create();
    t.match(response.json(), { type: `urn:mapledger:problem:${name}`, status });
    t.equal(response.headers["retry-after"], status === 503 ? "1" : undefined);
    t.notMatch(response.body, "secret");
  }
  service.failing = null;
  for (const [code, name, status] of [
    ["SQLITE_FULL", "disk-full", 507],
    ["SQLITE_IOERR", "log-failed", 503],
  ] as const) {
    service.log.broken = Object.assign(new Error("no"), { code });
    t.match((await create()).json(), { type: `urn:mapledger:problem:${name}`, status });
  }
  service.log.broken = null;
  t.same((await create()).json(), { fd: 3, map_id: 1, seq: 2 });
});

test("a service that is not ready lives, and takes no commands", async (t) => {
  let reason: string | null = "recovering: 10 of 20 events";
  const service = await Service.start(t, { ready: () => reason });
  t.equal((await service.send("GET", "/livez")).statusCode, 200);
  for (const url of ["/readyz", "/v1/maps"]) {
    const response = await service.send("GET", url);
    t.match(response.json(), { status: 503, detail: reason });
    t.equal(response.headers["retry-after"], "1");
  }
  reason = null;
  t.equal((await service.send("GET", "/readyz")).statusCode, 200);
  t.equal((await service.app.inject({ method: "HEAD", url: "/readyz" })).statusCode, 200);
  t.equal((await service.app.inject({ method: "HEAD", url: "/v1/maps" })).statusCode, 200);
});

test("what is not HTTP is answered and hung up on", async (t) => {
  const service = await Service.start(t);
  const url = new URL(await service.app.listen({ host: "127.0.0.1", port: 0 }));
  const long = await fetch(new URL(`/v1/maps/1/elements/${"00".repeat(20_000)}`, url));
  t.equal(long.status, 431);
  t.match(await long.json(), { type: "urn:mapledger:problem:header-too-large" });
  for (const path of ["//", "//v1/maps", "/?", "/v1//maps", "/v1/maps/", "/v1/maps?limit=1&limit=2", "/v1/maps?limit"])
    t.ok((await service.app.inject(path)).statusCode < 500, path);
  const key = await fetch(new URL(`/v1/maps/1/elements/${"00".repeat(15_000)}`, url));
  t.equal(key.status, 404, "a key of 15,000 bytes is looked up");
});

test("a page of another name that means loopback is refused, whatever it asks", async (t) => {
  const service = await Service.start(t);
  for (const host of ["evil.example:8620", "127.0.0.1.evil.example"])
    for (const path of ["/v1/maps", "/v1/maps/1/elements/01000000"])
      t.match((await service.send("GET", path, undefined, { host })).json(), {
        type: "urn:mapledger:problem:foreign-page",
        status: 403,
      });
  for (const host of ["localhost:8620", "127.0.0.1", "[::1]:8620"])
    t.equal((await service.send("GET", "/v1/maps", undefined, { host })).statusCode, 200, host);
});

test("a page of elements ends by its bytes, too, and says where the next begins", async (t) => {
  const service = await Service.start(t);
  const session = await service.session();
  const valueBytes = 4 * 1024 * 1024 - 1024;
  await service.send("POST", `${session}/maps`, { ...HASH, value_size: valueBytes, max_entries: 8 });
  for (const key of ["01000000", "02000000", "03000000", "04000000", "05000000"])
    await service.send("PUT", `/v1/maps/1/elements/${key}`, { value: key.slice(0, 2).repeat(valueBytes) });
  const keys: string[] = [];
  const sizes: number[] = [];
  for (let after = ""; ; ) {
    const page = (await service.send("GET", `/v1/maps/1/elements?limit=100${after}`)).json();
    sizes.push(page.elements.length);
    for (const { key } of page.elements) keys.push(key);
    if (page.next === null) break;
    after = `&after=${page.next}`;
  }
  t.same(sizes, [4, 1]);
  t.same(keys.sort(), ["01000000", "02000000", "03000000", "04000000", "05000000"]);
});

test("after a failed sync of the log nobody knows the outcome: nothing is run behind it", async (t) => {
  const service = await Service.start(t);
  const session = await service.session();
  const create = () => service.send("POST", `${session}/maps`, HASH);
  service.log.broken = new LogUncertain("appending to the log", new Error("disk I/O error"));
  const unknown = await create();
  t.match(unknown.json(), { type: "urn:mapledger:problem:outcome-unknown", status: 500, detail: /unknown/ });
  t.notMatch(unknown.body, /nothing was changed/);
  t.equal(unknown.headers["retry-after"], undefined);
  t.same(service.ended, ["appending to the log: disk I/O error"]);
  service.log.broken = null;
  t.match((await create()).json(), { type: "urn:mapledger:problem:log-failed", detail: /nothing was changed/ });
  t.equal(service.log.lastSeq, 1);
});
