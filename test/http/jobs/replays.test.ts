import { test } from "tap";
import { readSettings } from "../../../src/config.ts";
import { eventJson } from "../../../src/log/event_json.ts";
import { ApiTarget } from "../../../src/replay/api_target.ts";
import { TargetFailed } from "../../../src/replay/target.ts";
import { Injected } from "../../replay/support.ts";
import { EXPORTED_EVENT } from "../../support/exported.ts";
import { Service } from "../service.ts";

/** Of a target that is never contacted. */
const SETTINGS = { replayTargets: ["http://127.0.0.1:1", "kernel"] };
const LINES = { "content-type": "application/x-ndjson" };

interface ReplayJob {
  readonly id: number;
  readonly state: string;
  readonly summary: { readonly compared: number; readonly differences: number; readonly last_seq: number };
  readonly differences: readonly object[];
  readonly detail: string | null;
}

async function record(service: Service): Promise<void> {
  const session = await service.session();
  const map = await service.map(session);
  for (let key = 0; key < 5; key++) await service.send("PUT", `${map}/elements/0${key}000000`, { value: "2a000000" });
  await service.send("GET", `${map}/elements/01000000`);
  await service.send("DELETE", session);
}

/** The log as an export has it. */
function exported({ log }: Service): string {
  return log.rows.map((row) => `${JSON.stringify(eventJson(row))}\n`).join("");
}

async function ended(service: Service, id: number): Promise<ReplayJob> {
  for (;;) {
    const job = (await service.send("GET", `/v1/replays/${id}`)).json() as ReplayJob;
    if (job.state !== "running") return job;
    await new Promise(setImmediate);
  }
}

test("a replay runs in the service: it is told how far it is, and what differed", async (t) => {
  const there = await Service.start(t);
  const opened: string[] = [];
  let closed = 0;
  const service = await Service.start(t, {
    settings: SETTINGS,
    targets: (spec) => {
      opened.push(spec === "kernel" ? spec : `${spec.url} ${spec.token}`);
      return { target: new ApiTarget(new Injected(there.app)), close: () => closed++ };
    },
  });
  await record(service);
  const target = { url: "http://127.0.0.1:1/", token: "secret" };
  const started = await service.send("POST", "/v1/replays", { target });
  t.equal(started.statusCode, 201);
  t.equal(started.headers.location, "/v1/replays/1");
  t.strictSame(opened, ["http://127.0.0.1:1/ secret"]);
  t.notMatch(started.body, /secret/);
  t.match(await ended(service, 1), {
    state: "done",
    progress: { done: 10, total: 10 },
    summary: { selected: 10, compared: 9, implied: 1, differences: 0 },
    detail: null,
  });
  t.equal(closed, 1);
  t.strictSame(
    there.log.rows.map(({ cmd, key, errno }) => [cmd, key, errno]),
    service.log.rows.map(({ cmd, key, errno }) => [cmd, key, errno]),
  );

  await service.send("POST", "/v1/replays", { source: { after: 1, before: 9, errno: "0" }, target });
  t.match(await ended(service, 2), {
    summary: { compared: 0, left_out: [{ cmd: "BPF_MAP_CREATE", why: "its session was opened outside of the range" }] },
  });
  const { events } = (await service.send("GET", "/v1/events")).json();
  const [after, before] = [events[0].position, events[8].position];
  const stranger = (await there.send("GET", "/v1/events/1")).json().position;
  const elsewhere = await service.send("POST", "/v1/replays", { source: { after: stranger }, target });
  t.match(elsewhere.json(), { status: 410, type: "urn:mapledger:problem:foreign-position", reason: "other-event" });
  const garbled = await service.send("POST", "/v1/replays", { source: { before: before.slice(1) }, target });
  t.match(garbled.json(), { status: 400, detail: /^source.before: a seq or a whole position required/ });
  await service.send("POST", "/v1/replays", { source: { after, before, errno: "0" }, target });
  t.strictSame((await ended(service, 3)).summary, (await ended(service, 2)).summary, "positions are the events'");
  await there.send("POST", "/v1/sessions");
  await service.send("POST", "/v1/replays", { source: { cmd: "BPF_MAP_LOOKUP_ELEM" }, target, prepare: true });
  t.match(await ended(service, 4), { summary: { selected: 1, compared: 1, differences: 0 } });
  t.equal((await service.send("GET", "/v1/replays")).json().replays.length, 4);
});

test("a replay can be cancelled, and only so many run at once; one whose target fails says how far it came", async (t) => {
  const there = await Service.start(t);
  const held: (() => void)[] = [];
  const service = await Service.start(t, {
    settings: SETTINGS,
    targets: (spec) => {
      const token = spec === "kernel" ? null : spec.token;
      const injected = new Injected(there.app);
      let left = 3;
      return {
        target: new ApiTarget({
          send: async (request) => {
            if (token === "dies" && left-- === 0) throw new TargetFailed("it is gone");
            if (token === "waits") await new Promise<void>((resolve) => held.push(resolve));
            return injected.send(request);
          },
        }),
        close() {},
      };
    },
  });
  await record(service);
  const url = "http://127.0.0.1:1";
  const start = (token: string) => service.send("POST", "/v1/replays", { target: { url, token } });
  await start("dies");
  t.match(await ended(service, 1), {
    state: "failed",
    detail: "it is gone: it came up to event 3",
    summary: { compared: 3 },
  });
  for (let at = 0; at < 4; at++) t.equal((await start("waits")).statusCode, 201);
  const refused = await start("waits");
  t.equal(refused.statusCode, 503);
  t.match(refused.json(), {
    type: "urn:mapledger:problem:too-many-replays",
    detail: "4 replays are already running (limit 4)",
  });
  for (let id = 2; id <= 5; id++) t.equal((await service.send("DELETE", `/v1/replays/${id}`)).statusCode, 200);
  for (const go of held) go();
  for (let id = 2; id <= 5; id++) t.match(await ended(service, id), { state: "cancelled", summary: { last_seq: 1 } });
  t.equal((await start("other")).statusCode, 201, "there is room again");
  t.equal((await ended(service, 6)).state, "done");
  t.equal((await service.send("DELETE", "/v1/replays/9")).statusCode, 404);
  t.equal((await service.send("GET", "/v1/replays/9")).statusCode, 404);
});

test("a replay's target is a URL of http or https, or the kernel where it can be had", async (t) => {
  const service = await Service.start(t, {
    settings: SETTINGS,
    targets: () => ({ refused: "bpf(2) is refused: EPERM" }),
  });
  for (const [target, where] of [
    [{ url: "file:///etc/passwd" }, "target.url"],
    [{ url: "nonsense" }, "target.url"],
    ["kernel", "target"],
    ["moon", "target"],
    [{ url: "http://127.0.0.1", token: "a\r\nb" }, "target.token"],
  ] as const) {
    const response = await service.send("POST", "/v1/replays", { target });
    t.equal(response.statusCode, 400);
    t.match(response.json(), { where });
  }
  t.equal((await service.send("POST", "/v1/replays", { target: { url: "http://x" }, speed: 0 })).statusCode, 400);
});

test("a replay goes only to targets that the setting names, and nothing else is opened", async (t) => {
  const opened: string[] = [];
  const start = async (named: string) => {
    const replayTargets = readSettings({ MAPLEDGER_REPLAY_TARGETS: named }).replayTargets;
    return Service.start(t, {
      settings: { replayTargets },
      targets: (spec) => {
        opened.push(spec === "kernel" ? spec : spec.url.origin);
        return { refused: "opened" };
      },
    });
  };
  const url = (text: string) => ({ url: text });
  const services = { none: await start(""), some: await start("http://10.0.0.5:8620,https://ledger.example/") };
  const refused: readonly (readonly [Service, object | string, string])[] = [
    [services.none, "kernel", "kernel"],
    [services.none, url("http://127.0.0.1:8620"), "http://127.0.0.1:8620"],
    [services.some, "kernel", "kernel"],
    [services.some, url("http://10.0.0.5:8621"), "http://10.0.0.5:8621"],
    [services.some, url("http://10.0.0.5"), "http://10.0.0.5"],
    [services.some, url("https://10.0.0.5:8620"), "https://10.0.0.5:8620"],
    [services.some, url("http://10.0.0.50:8620"), "http://10.0.0.50:8620"],
    [services.some, url("http://10.0.0.5:8620@127.0.0.1:1"), "http://127.0.0.1:1"],
    [services.some, url("http://ledger.example"), "http://ledger.example"],
    [services.some, url("https://ledger.example.org"), "https://ledger.example.org"],
    [services.some, url("https://x.ledger.example"), "https://x.ledger.example"],
  ];
  for (const [service, target, origin] of refused) {
    const response = await service.send("POST", "/v1/replays", { target });
    t.equal(response.statusCode, 403, origin);
    t.match(response.json(), {
      type: "urn:mapledger:problem:target-not-named",
      detail: `MAPLEDGER_REPLAY_TARGETS does not name ${origin}`,
    });
  }
  t.strictSame(opened, []);
  for (const text of ["http://10.0.0.5:8620", "HTTP://10.0.0.5:8620/", "https://LEDGER.example:443"]) {
    const response = await services.some.send("POST", "/v1/replays", { target: url(text) });
    t.match(response.json(), { status: 400, where: "target" }, "it was to be opened");
  }
  t.strictSame(opened, ["http://10.0.0.5:8620", "http://10.0.0.5:8620", "https://ledger.example"]);
});

test("an export is imported: its commands run as the caller's, and what differs is told", async (t) => {
  const here = await Service.start(t);
  await record(here);
  const there = await Service.start(t, { authenticate: (token) => (token === "t" ? "alice" : null) });
  const headers = { ...LINES, authorization: "Bearer t" };
  const text = exported(here);
  const good = await there.send("POST", "/v1/replays/import", text, headers);
  t.equal(good.statusCode, 200);
  t.match(good.json(), { summary: { selected: 10, compared: 9, differences: 0 }, differences: [] });
  t.ok(there.log.rows.every(({ caller }) => caller === "alice"));
  t.equal(there.log.rows.length, 10);
  const lies = text.replace('"errno":"E2BIG"', '"errno":"EPERM"');
  t.match((await there.send("POST", "/v1/replays/import", lies, headers)).json(), {
    summary: { differences: 1 },
    differences: [{ seq: 7, differs: ["errno"], recorded: { errno: "EPERM" }, got: { errno: "E2BIG", seq: 17 } }],
  });
});

test("an import ends at a line that cannot be read, and says which and how far it came", async (t) => {
  const here = await Service.start(t);
  await record(here);
  const there = await Service.start(t);
  const lines = exported(here).split("\n");
  const bad = [...lines.slice(0, 3), '{"seq":', ...lines.slice(4)].join("\n");
  const response = await there.send("POST", "/v1/replays/import", bad, LINES);
  t.equal(response.statusCode, 400);
  t.match(response.json(), {
    where: "line 4",
    detail: /^line 4: event: JSON .*; the commands before have run, up to event 3$/,
  });
  t.equal(there.log.rows.length, 3);
  t.equal(
    (await there.send("POST", "/v1/replays/import", "[]", { "content-type": "application/json" })).statusCode,
    415,
  );
});

test("an import is read as it comes: it may be larger than any other body", async (t) => {
  const here = await Service.start(t);
  await record(here);
  const there = await Service.start(t, { settings: { bodyBytesMax: 1024 } });
  const text = exported(here);
  t.ok(text.length > 2000);
  t.match((await there.send("POST", "/v1/replays/import", text, LINES)).json(), { summary: { selected: 10 } });
});

test("an import is read in turns: blank lines, and a long line, whatever is in it", async (t) => {
  const service = await Service.start(t);
  const MIB = 1024 * 1024;
  const turnsOf = async (text: string, answer: object): Promise<number> => {
    const before = service.turns.taken;
    t.match((await service.send("POST", "/v1/replays/import", text, LINES)).json(), answer);
    return service.turns.taken - before;
  };
  const blank = await turnsOf("\n".repeat(MIB), { summary: { selected: 0 } });
  t.ok(blank >= 15, `${blank} turns`);
  const fields = await turnsOf(`\n{"a":1${',"a":1'.repeat(MIB / 6)}}\n`, { status: 400, where: "line 2" });
  t.ok(fields >= 3, `${fields} turns`);
  const long = await turnsOf(`{"a":"${"0".repeat(8 * MIB)}"}\n`, { status: 400, where: "line 1" });
  t.equal(long, 0, "it is too long, and is not read");
});

test("an import leaves out what is too large to be sent or compared in one go, and says so", async (t) => {
  const KIB = 1024;
  const here = await Service.start(t);
  await here.map(await here.session(), {
    map_type: "BPF_MAP_TYPE_ARRAY",
    value_size: 300 * KIB,
    max_entries: 1,
    map_flags: [],
  });
  const lookup = { cmd: "BPF_MAP_LOOKUP_ELEM", key: "00000000" };
  const batch = {
    cmd: "BPF_MAP_UPDATE_BATCH",
    attr: { count: 40_000, elem_flags: "0", in_batch: null, out_batch: null },
  };
  const events = [
    { ...lookup, attr: { value_room: 300 * KIB } },
    { ...lookup, attr: { value_room: 5 * KIB * KIB } },
    { ...batch, session: null, fd: null, key: "00".repeat(40_000), value: "00".repeat(40_000) },
    { ...batch, attr: { ...batch.attr, count: 4_000_000_000, exact: true }, key: "00", value: "00" },
    { cmd: "MAP_ELEMENTS", attr: { after: null, limit: 4_294_967_295 }, out: { count: 1, more: false } },
  ].map((event, at) => ({ ...EXPORTED_EVENT, seq: at + 3, ...event }));
  const text = exported(here) + events.map((event) => `${JSON.stringify(event)}\n`).join("");
  const there = await Service.start(t);
  const answer = await there.send("POST", "/v1/replays/import", text, LINES);
  const { left_out: leftOut, ...summary } = answer.json().summary;
  t.match(summary, { selected: 7, differences: 0, last_seq: 7 });
  const why = (row: { why: string; count: number }): string => `${row.count}: ${row.why}`;
  t.strictSame(leftOut.map(why).sort(), [
    "1: it has more than 4194304 bytes: `mapledger import`, on the command line, can send it",
    "1: it was sent; its answer is longer than 524288 bytes, and was not compared",
    "2: it has more than 32768 elements: `mapledger import`, on the command line, can send it",
  ]);
  t.equal(there.log.rows.length, 4, "the whole map is counted, however long that is");
  const bad = `${text}${JSON.stringify({ ...EXPORTED_EVENT, ...lookup, seq: 8, attr: { value_room: 2 ** 40 } })}`;
  t.match((await there.send("POST", "/v1/replays/import", bad, LINES)).json(), {
    status: 400,
    detail: /^line 8: attr.value_room: an integer from 0 to 268435456 required/,
  });
});
