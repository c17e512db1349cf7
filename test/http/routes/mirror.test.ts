import { type Test, test } from "tap";
import { Service } from "../service.ts";

const OFF = "no mirror in this test";

/** A service without a mirror, and a map of it. */
async function furnish(t: Test): Promise<{ service: Service; map: string }> {
  const service = await Service.start(t);
  await service.map(await service.session(), { map_name: "counters" });
  return { service, map: "/v1/maps/name:counters" };
}

test("orders about kernel maps are refused if the mirror is off, and leave no event", async (t) => {
  const { service, map } = await furnish(t);
  const before = service.log.lastSeq;
  for (const [path, body] of [
    [`${map}/mirror/decide`, { take: "ledger" }],
    [`${map}/mirror/decide`, { take: "kernel", keys: ["00000001", "0x00000002"] }],
    [`${map}/mirror/recreate`, undefined],
    [`${map}/mirror/release`, undefined],
    [`${map}/mirror/repin`, { pathname: "/sys/fs/bpf/counters" }],
    ["/v1/mirror/take-over", undefined],
    ["/v1/maps/adopt", { kernel_id: 42, policy: "import", interval_seconds: 10 }],
    ["/v1/maps/adopt", { pinned: "/sys/fs/bpf/m", on_replace: "report" }],
  ] as const) {
    const answer = await service.send("POST", path, body);
    t.match(answer.json(), { status: 405, errno: "EOPNOTSUPP", detail: OFF }, path);
  }
  t.match((await service.send("GET", `${map}/drift`)).json(), { status: 405, detail: new RegExp(OFF) });
  const resync = await service.send("POST", `${map}/mirror/resync`);
  t.same(resync.json(), { mirror: { state: "off", detail: OFF }, differed: null });
  t.equal(service.log.lastSeq, before);
});

test("orders about a map that does not exist are 404", async (t) => {
  const { service } = await furnish(t);
  for (const [order, body] of [
    ["decide", { take: "ledger" }],
    ["recreate", undefined],
    ["release", undefined],
    ["repin", { pathname: "/sys/fs/bpf/counters" }],
  ] as const)
    t.equal((await service.send("POST", `/v1/maps/99/mirror/${order}`, body)).statusCode, 404, order);
});

test("bodies of orders are checked before anything is asked of the engine", async (t) => {
  const { service, map } = await furnish(t);
  const refuses = async (path: string, body: object, detail: RegExp): Promise<void> => {
    const answer = await service.send("POST", path, body);
    t.match(answer.json(), { status: 400, type: "urn:mapledger:problem:invalid-input", detail }, JSON.stringify(body));
  };
  const decide = `${map}/mirror/decide`;
  await refuses(decide, {}, /take: required/);
  await refuses(decide, { take: "both" }, /take: must be one of ledger, kernel/);
  await refuses(decide, { take: "ledger", keys: [] }, /keys/);
  await refuses(decide, { take: "ledger", keys: Array(10_001).fill("00000001") }, /keys/);
  await refuses(decide, { take: "ledger", keys: ["00000001", "x0000000"] }, /keys\[1\]: hex digits required/);
  await refuses(decide, { take: "ledger", keys: ["0001"] }, /keys\[0\]: the key has 2 bytes: this map's keys have 4/);
  await refuses(`${map}/mirror/repin`, { pathname: "a\0b" }, /pathname/);
  const adopt = "/v1/maps/adopt";
  await refuses(adopt, { kernel_id: 1, interval_seconds: 1 }, /interval_seconds: `policy` is required with it/);
  await refuses(adopt, { kernel_id: 1, policy: "ignore" }, /policy: must be one of report, repair, import/);
  await refuses(adopt, { kernel_id: 1, policy: "report", interval_seconds: 86_401 }, /interval_seconds/);
  await refuses(adopt, { kernel_id: 1, on_replace: "report" }, /on_replace/);
  await refuses(adopt, { pinned: "/sys/fs/bpf/m", on_replace: "replace" }, /on_replace: must be one of/);
  t.equal((await service.send("GET", `${map}/mirror/recreate`)).statusCode, 405, "an order is a POST");
});

test("how the mirror stands is said by /v1/mirror, by /readyz, and by the metrics", async (t) => {
  const { service } = await furnish(t);
  t.same((await service.send("GET", "/v1/mirror")).json(), {
    state: "off",
    detail: OFF,
    owner: null,
    directory: "/sys/fs/bpf/mapledger",
    pins: [],
    foreign: [],
    foreign_more: false,
    unknown: [],
    maps: { on: 0, failed: 0, lost: 0, waiting: 0, off: 1, unequal: 0 },
  });
  const ready = await service.send("GET", "/readyz");
  t.equal(ready.statusCode, 200);
  t.same(ready.json(), { status: "ready", mirror: { state: "off", detail: OFF }, degraded: [] });
  const metrics = (await service.send("GET", "/metrics")).body;
  t.match(metrics, /^mapledger_mirror_on 0$/m);
  t.match(metrics, /^mapledger_mirror_maps\{state="off"\} 1$/m);
  t.match(metrics, /^mapledger_mirror_maps\{state="lost"\} 0$/m);
});
