import { test } from "tap";
import type { Caller } from "../../../src/access/caller.ts";
import type { Scopes } from "../../../src/access/scopes.ts";
import type { EventRow } from "../../../src/log/event.ts";
import { readProof } from "../../../src/log/tlog_proof.ts";
import { openNote, readCheckpoint, readVkey, type Verifier } from "../../../src/tlog/note.ts";
import type { WitnessStatus } from "../../../src/tree/ports.ts";
import { Service } from "../service.ts";

async function furnished(t: Parameters<typeof Service.start>[0], lookups: number): Promise<Service> {
  const service = await Service.start(t);
  const fd = await service.map(await service.session());
  for (let at = 0; at < lookups; at++) await service.send("GET", `${fd}/elements/0000000${at % 10}`);
  return service;
}

const verifierOf = async (service: Service): Promise<Verifier> =>
  readVkey((await service.send("GET", "/v1/log")).json().vkey) as Verifier;

test("getCheckpoint signs a tree that has every event that was answered", async (t) => {
  const service = await furnished(t, 3);
  const response = await service.send("GET", "/checkpoint");
  t.equal(response.statusCode, 200);
  t.equal(response.headers["content-type"], "text/plain; charset=utf-8");
  t.equal(response.headers["cache-control"], "no-store");
  const opened = openNote(response.body, await verifierOf(service));
  t.match("text" in opened && readCheckpoint(opened.text), { origin: "mapledger/test", size: 5 });
  t.equal((await service.send("GET", "/checkpoint")).body, response.body, "nothing has happened since");
  t.same((await service.send("GET", "/v1/log")).json(), {
    id: "test",
    possible_cpus: 2,
    origin: "mapledger/test",
    vkey: (await verifierOf(service)).vkey,
    last_seq: 5,
    tree_size: 5,
    signed_size: 5,
    refusal: null,
    auth: "on",
    caller: "anonymous",
    scopes: ["metrics", "evidence", "read", "write", "pin", "admin"],
    public_evidence: "off",
    witnesses: [],
  });
});

test("getProof proves each event to who has the key alone", async (t) => {
  const service = await furnished(t, 7);
  const verifier = await verifierOf(service);
  for (let seq = 1; seq <= 9; seq++) {
    const response = await service.send("GET", `/v1/events/${seq}/proof`);
    t.equal(response.headers["content-type"], "text/plain; charset=utf-8");
    t.match(readProof(response.body, verifier), { event: { seq, cmd: service.log.rows[seq - 1]?.cmd } });
  }
  t.match((await service.send("GET", "/v1/events/10/proof")).json(), { status: 404, detail: /^there is no event 10/ });
  t.match((await service.send("GET", "/v1/events/0/proof")).json(), { status: 400, detail: /^path.seq: / });
});

test("getTile serves hashes and entries by the paths of tlog-tiles, for good", async (t) => {
  const service = await furnished(t, 270);
  t.match((await service.send("GET", "/tile/0/000")).json(), { status: 404, detail: /its size is 0$/ });
  await service.send("GET", "/checkpoint");
  const rows: readonly [path: string, bytes: number][] = [
    ["0/000", 8192],
    ["0/001.p/16", 512],
    ["0/001.p%2F1", 32],
    ["1/000.p/1", 32],
    ["entries/000", 256 * 53],
    ["entries/001.p/2", 106],
  ];
  for (const [path, bytes] of rows) {
    const { headers, rawPayload } = await service.send("GET", `/tile/${path}`);
    t.same([rawPayload.length, headers["content-type"]], [bytes, "application/octet-stream"], path);
    t.equal(headers["cache-control"], "max-age=31536000, immutable");
  }
  for (const path of ["0/001", "0/001.p/17", "0/x001/000", "2/000.p/1", "entries/001", "0/1", "0/001.p/256", "0/"])
    t.match((await service.send("GET", `/tile/${path}`)).json(), { status: 404, type: /no-such-tile$/ }, path);
  t.match((await service.send("POST", "/tile/0/x000/000")).json(), { status: 405 });
});

test("a log that is not what its tree has gets no signature, and the metrics say so", async (t) => {
  const service = await furnished(t, 3);
  await service.send("GET", "/checkpoint");
  t.match((await service.send("GET", "/metrics")).body, "mapledger_tree_refused 0");
  t.match((await service.send("GET", "/metrics")).body, "mapledger_tree_size 5");
  const row = service.log.rows[2] as EventRow;
  service.log.rows[2] = { ...row, value: Buffer.from("00", "hex") };
  t.match((await service.send("GET", "/v1/events/3/proof")).json(), { status: 503, detail: /^event 3 in the log/ });
  t.match((await service.send("GET", "/tile/entries/000.p/5")).json(), { status: 503, type: /log-contradicted$/ });
  service.log.rows[2] = row;
  service.log.rows.length = 4;
  const problem = (await service.send("GET", "/checkpoint")).json();
  t.match(problem, { type: "urn:mapledger:problem:log-contradicted", status: 503 });
  t.equal(problem.detail, "the log ends at event 4, the tree has 5");
  t.equal((await service.send("GET", "/v1/log")).json().refusal, problem.detail);
  t.match((await service.send("GET", "/metrics")).body, "mapledger_tree_refused 1");
});

test("what a witness says of the log is told, by GET /v1/log and the metrics", async (t) => {
  const base = { vkey: "w+00000000+BA==", url: "https://w.example.org/", cosignedSize: 3, detail: null };
  const witnesses: WitnessStatus[] = [
    { ...base, name: "a", state: "cosigning" },
    { ...base, name: "b", state: "alarm", detail: "it has cosigned a tree of size 9" },
    { ...base, name: "c", state: "failing", detail: "it has answered 503" },
  ];
  const service = await Service.start(t, { witnesses });
  const { cosignedSize: _, ...rest } = base;
  t.same(
    (await service.send("GET", "/v1/log")).json().witnesses,
    witnesses.map(({ name, state, detail }) => ({ ...rest, name, state, detail, cosigned_size: 3 })),
  );
  const { body } = await service.send("GET", "/metrics");
  for (const [name, alarm, failing] of [
    ["a", 0, 0],
    ["b", 1, 0],
    ["c", 0, 1],
  ]) {
    t.match(body, `mapledger_witness_size{witness="${name}"} 3`);
    t.match(body, `mapledger_witness_alarm{witness="${name}"} ${alarm}`);
    t.match(body, `mapledger_witness_failing{witness="${name}"} ${failing}`);
  }
});

const PUBLIC = { publicEvidence: "on" } as const;

test("with public evidence, checkpoints and tiles need no token, and nothing else is shown without", async (t) => {
  const authenticate = (token: string): Caller | string | null => {
    if (token === "a") return "alice";
    return token === "b" ? { name: "bob", scopes: new Set(["write"]) as Scopes } : null;
  };
  const service = await Service.start(t, { authenticate, settings: PUBLIC });
  const alice = { authorization: "Bearer a" };
  await service.send("POST", "/v1/sessions", {}, alice);
  const { body } = await service.send("GET", "/checkpoint", undefined, alice);
  for (const authorization of [{}, { authorization: "Bearer nobodys" }, { authorization: "Bearer b" }])
    for (const [url, status] of [
      ["/checkpoint", 200],
      ["/checkpoint?cosigned=1", 404],
      ["/tile/0/000.p/1", 200],
      ["/tile/entries/000.p/1", 200],
      ["/tile/0/001", 404],
    ] as const)
      t.equal((await service.send("GET", url, undefined, authorization)).statusCode, status, url);
  t.equal((await service.send("GET", "/checkpoint")).body, body);
  for (const url of ["/v1/log", "/v1/events/1/proof", "/v1/events", "/metrics"])
    t.equal((await service.send("GET", url)).statusCode, 401, url);
  t.equal((await service.send("GET", "/checkpoint", undefined, { "sec-fetch-site": "cross-site" })).statusCode, 403);
  t.match((await service.send("GET", "/v1/log", undefined, alice)).json(), { public_evidence: "on" });
});

test("who is not known has no checkpoint signed more than once a second, and asks few questions at once", async (t) => {
  const service = await Service.start(t, {
    authenticate: (token) => (token === "a" ? "alice" : null),
    settings: PUBLIC,
  });
  const alice = { authorization: "Bearer a" };
  let asked = 0;
  let answer = (): void => {};
  const held = new Promise<void>((resolve) => {
    answer = resolve;
  });
  const checkpoint = service.tree.checkpoint.bind(service.tree);
  service.tree.checkpoint = async () => {
    asked++;
    return checkpoint();
  };
  const tile = service.tree.tile.bind(service.tree);
  service.tree.tile = async (name) => {
    await held;
    return tile(name);
  };
  await service.send("POST", "/v1/sessions", {}, alice);
  await Promise.all(Array.from({ length: 20 }, () => service.send("GET", "/checkpoint")));
  t.equal(asked, 1);
  await service.send("GET", "/checkpoint", undefined, alice);
  t.equal(asked, 2, "who is known gets a new one each time");
  const tiles = Array.from({ length: 9 }, () => service.send("GET", "/tile/0/000.p/1"));
  t.match((await Promise.race(tiles)).json(), {
    status: 503,
    detail: "8 requests without the scope evidence are being answered",
  });
  answer();
  t.equal((await Promise.all(tiles)).filter(({ statusCode }) => statusCode === 200).length, 8);
});

test("a service that is not ready has no public evidence, either", async (t) => {
  const service = await Service.start(t, { settings: PUBLIC, authenticate: () => null, ready: () => "it recovers" });
  t.match((await service.send("GET", "/checkpoint")).json(), { status: 503, detail: "it recovers" });
});

test("evidence needs a token where the events do", async (t) => {
  const service = await Service.start(t, { authenticate: (token) => (token === "a" ? "alice" : null) });
  for (const url of ["/checkpoint", "/tile/0/000", "/v1/log", "/v1/events/1/proof"]) {
    t.equal((await service.send("GET", url)).statusCode, 401, url);
    t.not((await service.send("GET", url, undefined, { authorization: "Bearer a" })).statusCode, 401, url);
  }
});
