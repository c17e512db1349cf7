import t from "tap";
import { ArchiveRefused } from "../../../src/engine/archives.ts";
import { seqOf } from "../../support/messages.ts";
import { Service } from "../service.ts";

t.test("archived events are 410 and say where the log begins; lists begin there by themselves", async (t) => {
  const service = await Service.start(t);
  for (let at = 0; at < 10; at++) await service.session();
  service.reader.oldest = 6;
  const gone = { status: 410, type: "urn:mapledger:problem:archived", oldest_seq: 6 };
  const refused = ["/v1/events/5", "/v1/events?after=3", "/v1/events?before=6", "/v1/events?after=4&before=9"];
  for (const url of [...refused, "/v1/events/stream?after=0", "/v1/events/stream?after=4"])
    t.match((await service.send("GET", url)).json(), gone, url);
  const first = (await service.send("GET", "/v1/events?after=5&limit=2")).json();
  t.strictSame([first.oldest_seq, first.prev, seqOf(first.next)], [6, null, 7]);
  t.match((await service.send("GET", "/v1/events?before=8")).json(), { oldest_seq: 6, prev: null });
  t.equal((await service.send("GET", "/v1/events/6")).statusCode, 200);
  const lines = await service.send("GET", "/v1/events", undefined, { accept: "application/x-ndjson" });
  t.equal(lines.headers["mapledger-oldest-seq"], "6");
});

t.test("a job is begun, asked about, and refused", async (t) => {
  const service = await Service.start(t);
  t.strictSame((await service.send("GET", "/v1/archive")).json(), { directory: "/archive", oldest_seq: 1, job: null });
  const begun = await service.send("POST", "/v1/archive", { before: 3 });
  t.equal(begun.statusCode, 202);
  t.match(begun.json(), { state: "running", before: "3", caller: "anonymous", first: 1, through: 2, done_events: 0 });
  t.match((await service.send("GET", "/v1/archive")).json(), { job: { before: "3" } });
  for (const [why, name] of [
    ["another job is running", "archive-running"],
    ["nothing to archive", "nothing-to-archive"],
    ["beyond the log", "cannot-archive"],
  ] as const) {
    service.archiver.refusal = new ArchiveRefused(why, "why");
    const answer = await service.send("POST", "/v1/archive", { before: "2026-11-23T20:00:00Z" });
    t.match(answer.json(), { status: 409, type: `urn:mapledger:problem:${name}`, detail: "why" });
  }
  for (const payload of [{}, { before: 0 }, { before: 1, directory: "/" }])
    t.equal((await service.send("POST", "/v1/archive", payload)).statusCode, 400);
});
