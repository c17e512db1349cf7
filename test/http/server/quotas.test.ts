import type { IncomingMessage } from "node:http";
import t from "tap";
import { QUOTAS, type QuotaName } from "../../../src/access/quotas.ts";
import { parseTokens } from "../../../src/access/tokens_file.ts";
import { limitsOf, readSettings } from "../../../src/config.ts";
import { UnknownCaller } from "../../../src/http/server/auth.ts";
import { UnknownCallers } from "../../../src/http/server/unknown_callers.ts";
import { ApiTarget } from "../../../src/replay/api_target.ts";
import { HASH, Service } from "../service.ts";

const ALICE = { authorization: "Bearer alice" };
const BOB = { authorization: "Bearer bob" };
const authenticate = (token: string): string => token;

t.test("each quota has a setting, and 0 is none", async (t) => {
  for (const [name, { variable }] of Object.entries(QUOTAS)) {
    t.equal(limitsOf(readSettings({ [variable]: "0" }))[name as QuotaName], 0, variable);
    t.equal(limitsOf(readSettings({ [variable]: "7" }))[name as QuotaName], 7, variable);
    t.ok(limitsOf(readSettings({}))[name as QuotaName] > 0, `${variable} has a default`);
  }
});

t.test("routes and the syscall door say which quota it is; other callers go on", async (t) => {
  const settings = { callerSessionsMax: 1, callerMapsMax: 1, callerDescriptorsMax: 2, callerBytesMax: 100 };
  const service = await Service.start(t, { settings, authenticate });
  const session = await service.session(ALICE);
  const many = await service.send("POST", "/v1/sessions", {}, ALICE);
  t.match(many.json(), {
    type: "urn:mapledger:errno:EAGAIN",
    status: 503,
    errno: "EAGAIN",
    quota: "sessions",
    detail: "quota of sessions: alice has 1 of 1, 1 more required (MAPLEDGER_CALLER_SESSIONS_MAX)",
  });
  t.ok(many.headers["retry-after"]);
  t.equal((await service.send("POST", "/v1/sessions", {}, BOB)).statusCode, 201);
  const large = await service.send("POST", `${session}/maps`, { ...HASH, map_flags: [], max_entries: 64 }, ALICE);
  t.match(large.json(), { status: 507, errno: "ENOMEM", quota: "bytes" });
  const fd = await service.map(session, {}, ALICE);
  t.match((await service.send("POST", `${session}/maps`, HASH, ALICE)).json(), {
    status: 409,
    errno: "ENOSPC",
    quota: "maps",
  });
  await service.send("POST", `${session}/fds`, { kind: "map", map: "1" }, ALICE);
  t.match((await service.send("POST", `${session}/fds`, { kind: "map", map: "1" }, ALICE)).json(), {
    status: 409,
    errno: "EMFILE",
    quota: "descriptors",
  });
  const door = { cmd: "BPF_MAP_GET_FD_BY_ID", attr: { map_id: 1 } };
  t.match((await service.send("POST", `${session}/bpf`, door, ALICE)).json(), { ret: -1, errno: "EMFILE" });
  t.equal((await service.send("PUT", `${fd}/elements/01000000`, { value: "01000000" }, ALICE)).statusCode, 200);
});

t.test("pins and directories: ENOSPC by the routes and the syscall door", async (t) => {
  const service = await Service.start(t, { settings: { callerPinsMax: 1 }, authenticate });
  const session = await service.session(ALICE);
  const fd = await service.map(session, {}, ALICE);
  const directory = "/v1/directories/%2Fsys%2Ffs%2Fbpf%2F";
  const made = await service.send("PUT", `${directory}d`, undefined, ALICE);
  t.equal(made.statusCode, 200);
  const over = {
    status: 409,
    errno: "ENOSPC",
    quota: "pins",
    detail: "quota of pins and directories: alice has 1 of 1, 1 more required (MAPLEDGER_CALLER_PINS_MAX)",
  };
  t.match((await service.send("PUT", `${directory}e`, undefined, ALICE)).json(), over);
  t.match((await service.send("POST", `${fd}/pin`, { pathname: "/sys/fs/bpf/p" }, ALICE)).json(), over);
  t.match((await service.send("POST", "/v1/maps/1/pin", { pathname: "/sys/fs/bpf/p" }, ALICE)).json(), over);
  const door = { cmd: "BPF_OBJ_PIN", attr: { bpf_fd: 3, pathname: "/sys/fs/bpf/p" } };
  t.match((await service.send("POST", `${session}/bpf`, door, ALICE)).json(), { ret: -1, errno: "ENOSPC" });
  t.equal((await service.send("PUT", `${directory}e`, undefined, BOB)).statusCode, 200, "another caller");
  t.equal((await service.send("DELETE", `${directory}d`, undefined, ALICE)).statusCode, 200);
  t.equal((await service.send("POST", `${fd}/pin`, { pathname: "/sys/fs/bpf/p" }, ALICE)).statusCode, 200);
  const used = (await service.send("GET", "/metrics", undefined, ALICE)).body;
  t.match(used, 'mapledger_caller_quota_limit{quota="pins"} 1');
});

t.test("elements: ENOMEM by the routes, by the hot path, and for a push", async (t) => {
  const service = await Service.start(t, { settings: { callerBytesMax: 8 }, authenticate });
  const url = await service.app.listen({ host: "127.0.0.1", port: 0 });
  const fd = await service.map(await service.session(ALICE), {}, ALICE);
  t.equal((await service.send("PUT", `${fd}/elements/01000000`, { value: "01000000" }, ALICE)).statusCode, 200);
  const refusal = { status: 507, errno: "ENOMEM", quota: "bytes", seq: 4 };
  t.match((await service.send("PUT", `${fd}/elements/02000000`, { value: "01000000" }, ALICE)).json(), refusal);
  const headers = { ...BOB, "content-type": "application/json" };
  const init = { method: "PUT", headers, body: '{"value":"01000000"}' };
  const hot = await fetch(`${url}/v1/maps/1/elements/03000000`, init);
  t.equal(hot.status, 507);
  t.match(await hot.json(), { ...refusal, seq: 5 });
  const batch = { elements: ["01000000", "04000000"].map((key) => ({ key, value: "01000000" })) };
  t.match((await service.send("POST", `${fd}/batch/update`, batch, ALICE)).json(), { errno: "ENOMEM", count: 1 });
  const bloom = { map_type: "BPF_MAP_TYPE_BLOOM_FILTER", key_size: 0, map_flags: [] };
  const filter = await service.map("/v1/sessions/1", bloom, ALICE);
  t.match((await service.send("POST", `${filter}/push`, { value: "01000000" }, ALICE)).json(), { errno: "ENOMEM" });
});

t.test("jobs: replays, imports and archives of a caller are bounded together", async (t) => {
  const released: (() => void)[] = [];
  const there = await Service.start(t);
  const service = await Service.start(t, {
    settings: { callerJobsMax: 1, replayTargets: ["http://127.0.0.1:1"] },
    authenticate,
    targets: () => ({
      target: new ApiTarget({
        send: async () => {
          await new Promise<void>((resolve) => released.push(resolve));
          throw new Error(`${there} is not asked`);
        },
      }),
      close() {},
    }),
  });
  await service.session(ALICE);
  const replay = { target: { url: "http://127.0.0.1:1" } };
  t.equal((await service.send("POST", "/v1/replays", replay, ALICE)).statusCode, 201);
  const refused = {
    type: "urn:mapledger:problem:too-many-jobs",
    status: 503,
    errno: "EAGAIN",
    quota: "jobs",
    detail: "quota of jobs: alice has 1 of 1, 1 more required (MAPLEDGER_CALLER_JOBS_MAX)",
  };
  t.match((await service.send("POST", "/v1/replays", replay, ALICE)).json(), refused);
  t.match((await service.send("POST", "/v1/archive", { before: 1 }, ALICE)).json(), refused);
  const lines = { ...ALICE, "content-type": "application/x-ndjson" };
  t.match((await service.send("POST", "/v1/replays/import", "", lines)).json(), refused);
  t.equal((await service.send("POST", "/v1/archive", { before: 1 }, BOB)).statusCode, 202);
  t.match((await service.send("POST", "/v1/replays", replay, BOB)).json(), { quota: "jobs" });
  for (const release of released) release();
});

t.test("the metrics tell of each known caller what he did and has, and of all others together", async (t) => {
  const reader = { name: "reader", scopes: new Set(["read", "metrics"] as const) };
  const service = await Service.start(t, {
    settings: { callerMapsMax: 1 },
    authenticate: (token) => (token === "reader" ? reader : token),
  });
  service.callers.replace(
    parseTokens(`alice:${"0".repeat(64)}\nreader:${"1".repeat(64)}:read,metrics`, "tokens").lines,
  );
  const session = await service.session(ALICE);
  await service.map(session, { map_flags: [] }, ALICE);
  await service.send("POST", `${session}/maps`, HASH, ALICE);
  await service.send("GET", "/v1/maps/9/elements/01000000", undefined, ALICE);
  for (let at = 0; at < 30; at++)
    await service.send("POST", "/v1/sessions", {}, { authorization: `Bearer made-up-${at}` });
  await service.send("POST", `${session}/maps`, HASH, { authorization: "Bearer reader" });
  const metrics = (await service.send("GET", "/metrics", undefined, ALICE)).body;
  for (const line of [
    'mapledger_caller_commands_total{caller="alice"} 4',
    'mapledger_caller_refused_total{caller="alice",why="quota"} 1',
    'mapledger_caller_refused_total{caller="alice",why="errno"} 1',
    'mapledger_caller_refused_total{caller="reader",why="scope"} 1',
    'mapledger_caller_quota_used{caller="alice",quota="sessions"} 1',
    'mapledger_caller_quota_used{caller="alice",quota="maps"} 1',
    'mapledger_caller_quota_used{caller="alice",quota="descriptors"} 1',
    'mapledger_caller_quota_used{caller="alice",quota="bytes"} 32',
    'mapledger_caller_quota_used{caller="",quota="sessions"} 30',
    'mapledger_caller_quota_limit{quota="maps"} 1',
  ])
    t.ok(metrics.split("\n").includes(line), line);
  t.notMatch(metrics, /made-up/);
  service.callers.replace([]);
  const later = (await service.send("GET", "/metrics", undefined, ALICE)).body;
  t.notMatch(later, /caller="alice"/);
  t.match(later, 'mapledger_caller_quota_used{caller="",quota="sessions"} 31');
});

t.test("a request of nobody known is counted, and has a log line with its peer", async (t) => {
  const service = await Service.start(t, { authenticate: () => null });
  const url = await service.app.listen({ host: "127.0.0.1", port: 0 });
  t.equal((await fetch(`${url}/v1/maps/1/elements/00000000?secret=1`)).status, 401);
  t.equal((await fetch(`${url}/v1/maps/1/elements/00000000`)).status, 401, "the hot path, too");
  t.equal((await fetch(`${url}/v1/nothing`, { headers: ALICE })).status, 401);
  t.equal((await fetch(`${url}/livez`)).status, 200);
  const line = {
    peer: /^127\.0\.0\.1 port \d+$/,
    kind: "no_token",
    request: "GET /v1/maps/1/elements/00000000",
    more: 0,
    message: "refused an unknown caller: the request has no bearer token",
  };
  t.match(service.warned, [line, line, { kind: "unknown_token", request: "GET /v1/nothing" }]);
  t.equal(service.warned.length, 3);
});

t.test("lines about unknown callers are bounded in rate: the rest are told in the next line", async (t) => {
  let nowMs = 0;
  const lines: object[] = [];
  const unknown = new UnknownCallers(
    (fields) => lines.push(fields),
    () => nowMs,
  );
  const request = { method: "GET", url: `/${"x".repeat(10_000)}`, socket: {} } as IncomingMessage;
  const refuse = (): void => {
    t.throws(() =>
      unknown.watch(request, () => {
        throw new UnknownCaller("unknown_uid", "uid 7 is nobody");
      }),
    );
  };
  for (let at = 0; at < 20; at++) refuse();
  t.equal(lines.length, 5);
  nowMs = 1000;
  refuse();
  t.match(lines.slice(5), [{ peer: "unix socket", kind: "unknown_uid", more: 15 }]);
  t.ok(JSON.stringify(lines[0]).length < 400);
  t.strictSame(unknown.totals, { no_token: 0, unknown_token: 0, unknown_uid: 21, unknown_certificate: 0 });
  t.equal(
    unknown.watch(request, () => 3),
    3,
  );
});
