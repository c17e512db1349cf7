import { test } from "tap";
import type { EventRow } from "../../src/log/event.ts";
import { openNote, readCheckpoint, readVkey, type Verifier } from "../../src/log/note.ts";
import { readProof } from "../../src/log/tlog_proof.ts";
import { Service } from "./service.ts";

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
    origin: "mapledger/test",
    vkey: (await verifierOf(service)).vkey,
    last_seq: 5,
    tree_size: 5,
    signed_size: 5,
    refusal: null,
    auth: "on",
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

test("evidence needs a token where the events do", async (t) => {
  const service = await Service.start(t, { authenticate: (token) => (token === "a" ? "alice" : null) });
  for (const url of ["/checkpoint", "/tile/0/000", "/v1/log", "/v1/events/1/proof"]) {
    t.equal((await service.send("GET", url)).statusCode, 401, url);
    t.not((await service.send("GET", url, undefined, { authorization: "Bearer a" })).statusCode, 401, url);
  }
});
