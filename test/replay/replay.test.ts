import { test } from "tap";
import { CMD } from "../../src/abi/service.ts";
import { type EventRow, rowEvent } from "../../src/log/event.ts";
import { eventJson } from "../../src/log/event_json.ts";
import { ApiTarget } from "../../src/replay/api_target.ts";
import { callOf } from "../../src/replay/calls.ts";
import { readEventLine } from "../../src/replay/event_line.ts";
import type { HttpRequest, HttpResponse } from "../../src/replay/http_call.ts";
import { Ids } from "../../src/replay/ids.ts";
import { readEventLines } from "../../src/replay/lines.ts";
import { writeEvents } from "../../src/replay/ndjson.ts";
import { type Clock, Pace } from "../../src/replay/pace.ts";
import { Replay } from "../../src/replay/replay.ts";
import type { Selection } from "../../src/replay/selection.ts";
import { between, type Source } from "../../src/replay/source.ts";
import { TargetFailed } from "../../src/replay/target.ts";
import { Service } from "../http/service.ts";
import { Injected, replayed, replayedTo, sourceOf } from "./support.ts";

const OPENED_OUTSIDE = "its session was opened outside of the range";

/** A log that has a bit of everything that needs another number elsewhere: two sessions, maps in a map, an operator, a cgroup. */
async function record(service: Service): Promise<readonly EventRow[]> {
  const one = await service.session();
  const inner = await service.map(one, { map_name: "inner" });
  const two = await service.session();
  const other = await service.map(two);
  await service.send("POST", `${inner}/pin`, { pathname: "/sys/fs/bpf/inner" });
  await service.send("POST", `${two}/bpf`, { cmd: "BPF_OBJ_GET", attr: { pathname: "/sys/fs/bpf/inner" } });
  const outer = await service.map(two, { map_type: "BPF_MAP_TYPE_HASH_OF_MAPS", inner_map_fd: 4 });
  await service.send("PUT", `${outer}/elements/01000000`, { value: "04000000" });
  await service.send("GET", `${outer}/elements/01000000`);
  for (let key = 0; key < 6; key++) await service.send("PUT", `${other}/elements/0${key}000000`, { value: "2a000000" });
  await service.send("POST", `${other}/batch/lookup`, { count: 10 });
  await service.send("GET", `${other}/elements/00`);
  await service.send("GET", "/v1/maps/name:inner/elements");
  await service.send("PUT", "/v1/maps/1/elements/07000000", { value: "2b000000" });
  await service.send("GET", "/v1/maps/99/elements/07000000");
  await service.send("POST", `${two}/fds`, { kind: "cgroup" });
  await service.send("POST", `${two}/fds`, { kind: "dup", fd: 3 });
  await service.send("POST", `${two}/bpf`, {
    cmd: "BPF_MAP_LOOKUP_ELEM",
    attr: { map_fd: 3, key: "01000000", value: "00" },
  });
  await service.send("POST", `${two}/bpf`, { cmd: "BPF_OBJ_GET_INFO_BY_FD", attr: { bpf_fd: 4, info_len: 104 } });
  await service.send("POST", `${two}/bpf`, { cmd: "BPF_MAP_GET_NEXT_ID", attr: { start_id: 1 } });
  await service.send("DELETE", `${two}/fds/17`);
  await service.send("DELETE", one);
  await service.send("DELETE", "/v1/pins/%2Fsys%2Ffs%2Fbpf%2Finner");
  return service.log.rows;
}

const changed = (rows: readonly EventRow[], seq: number, change: Partial<EventRow>): EventRow[] =>
  rows.map((row) => (row.seq === seq ? { ...row, ...change } : row));

const seqOf = (rows: readonly EventRow[], what: (row: EventRow) => boolean): number => rows.find(what)?.seq ?? 0;

test("a log replays into a mapledger that has given other numbers already, without a difference", async (t) => {
  const rows = await record(await Service.start(t));
  const there = await Service.start(t);
  const session = await there.session();
  await there.map(session);
  await there.map(session);
  const { differences, summary } = await replayed(rows, there.app);
  t.strictSame(differences, []);
  t.strictSame(summary.left_out, []);
  t.equal(summary.compared + summary.implied, rows.length);
  const again = await replayed(rows, there.app);
  t.match(again.differences, [{ cmd: "MAP_ELEMENTS", recorded: { errno: null }, got: { errno: "EINVAL" } }]);
  t.equal(again.differences.length, 1, "a second time two maps have the name that the operator used");
});

test("each recorded outcome that is not what the target answers is reported, once, with both", async (t) => {
  const rows = await record(await Service.start(t));
  const { app } = await Service.start(t);
  const lookup = seqOf(rows, ({ cmd, value }) => cmd === 1 && value !== null);
  const batch = seqOf(rows, ({ cmd }) => cmd === 24);
  const closed = seqOf(rows, ({ cmd, errno }) => cmd === 4099 && errno === 9);
  const nextId = seqOf(rows, ({ cmd }) => cmd === 12);
  const info = seqOf(rows, ({ cmd }) => cmd === 15);
  const row = rows[info - 1] as EventRow;
  const otherInfo = Buffer.from(row.value as Buffer);
  otherInfo.writeUInt32LE(77, 16);
  let lies = changed(rows, lookup, { value: Buffer.from("63000000", "hex") });
  lies = changed(lies, batch, { out: JSON.stringify({ count: 5, out_batch: "00000000" }) });
  lies = changed(lies, closed, { ret: 0, errno: 0 });
  lies = changed(lies, nextId, { out: JSON.stringify({ next_id: 3 }) });
  lies = changed(lies, info, { value: otherInfo });
  const { differences, summary } = await replayed(lies, app);
  t.match(differences, [
    { seq: lookup, cmd: "BPF_MAP_LOOKUP_ELEM", differs: ["value"], recorded: { value: "63000000" } },
    { seq: batch, cmd: "BPF_MAP_LOOKUP_BATCH", recorded: { count: 5 } },
    { seq: info, differs: ["info"] },
    { seq: nextId, differs: ["next_id"], recorded: { next_id: 3 }, got: { next_id: 2 } },
  ]);
  t.ok(
    summary.left_out.some(({ cmd, why }) => cmd === "CLOSE" && why === "its descriptor is not open in the target"),
    "a close that is said to have succeeded has nothing to close",
  );
  t.equal(summary.differences, differences.length);
});

test("a read-only descriptor of an object is read-only in the target, too", async (t) => {
  const service = await Service.start(t);
  const session = await service.session();
  await service.send("POST", `${session}/fds`, { kind: "pidfd", pid: 1, access: "r" });
  await service.send("POST", `${session}/fds`, { kind: "pidfd", pid: 1 });
  const there = await Service.start(t);
  t.strictSame((await replayed(service.log.rows, there.app)).differences, []);
  t.match((await there.send("GET", `${session}/fds`)).json(), { fds: [{ access: "r" }, { access: "rw" }] });
});

test("what the recording's machine had in the way of a pin is no word of a client's, and no other machine's fact", async (t) => {
  const service = await Service.start(t);
  const map = await service.map(await service.session());
  await service.send("POST", `${map}/pin`, { pathname: "/sys/fs/bpf/taken" });
  await service.send("PUT", "/v1/directories/%2Fsys%2Ffs%2Fbpf%2Fdir");
  const refused = service.log.rows.map((row) => {
    if (row.cmd !== CMD.BPF_OBJ_PIN && row.cmd !== CMD.MKDIR) return row;
    const attr = { ...JSON.parse(row.attr as string), found: { errno: "EEXIST", detail: "the machine has a pin" } };
    return { ...row, ret: -1, errno: 17, detail: attr.found.detail, out: null, attr: JSON.stringify(attr) };
  });
  const target = new Injected((await Service.start(t)).app);
  const { differences, summary } = await replayedTo(new ApiTarget(target), refused);
  const sent = target.requests.filter(({ path }) => path.endsWith("/bpf") || path.includes("/directories/"));
  t.same(
    sent.map(({ body }) => body?.toString().includes("found") ?? false),
    [false, false],
  );
  t.strictSame(summary.left_out, []);
  t.match(differences, [
    { cmd: "BPF_OBJ_PIN", recorded: { ret: -1, errno: "EEXIST" }, got: { ret: 0, errno: null } },
    { cmd: "MKDIR", recorded: { ret: -1, errno: "EEXIST" }, got: { ret: 0, errno: null } },
  ]);
});

test("a session that lived by a process is another's by its TTL", async (t) => {
  const service = await Service.start(t);
  const attr = { pid: 7, uid: 1000, startTime: "123456", boot: "00000000-0000-4000-8000-000000000000" };
  service.engine.run([
    { cmd: CMD.SESSION_OPEN, session: 0, caller: "anonymous", attr: { name: "s", ttlMs: 60_000, process: attr } },
  ]);
  await service.map("/v1/sessions/1");
  const reason = "client process exited";
  service.engine.run([{ cmd: CMD.SESSION_END, session: 1, caller: "anonymous", attr: { reason } }]);
  const rows = service.log.rows.map((row) => readEventLine(JSON.stringify(eventJson(row))));
  const there = await Service.start(t);
  const { differences, summary } = await replayed(rows, there.app);
  t.strictSame(differences, []);
  t.strictSame(summary.left_out, []);
  t.match(there.log.rows[0]?.attr, '{"name":"s","ttl_ms":60000,"peer":"127.0.0.1"}');
});

test("a filter leaves out what needs more than it selects, and says why; prepare sends that, too", async (t) => {
  const rows = await record(await Service.start(t));
  const errno = 2;
  const alone = await replayed(rows, (await Service.start(t)).app, {
    selection: { session: 2, afterSeq: 10 },
    ids: new Ids({ partial: true }),
  });
  t.equal(alone.summary.compared, 0);
  t.ok(alone.summary.left_out.length > 0);
  t.ok(alone.summary.left_out.every(({ why }) => why === OPENED_OUTSIDE));
  const prepared = await replayed(rows, (await Service.start(t)).app, { selection: { afterSeq: 10 }, prepare: true });
  t.strictSame(prepared.differences, []);
  t.strictSame(prepared.summary.left_out, []);
  t.equal(prepared.summary.compared + prepared.summary.implied, rows.length - 10);
  t.ok(prepared.summary.prepared > 5);
  const refused = await replayed(rows, (await Service.start(t)).app, { selection: { errno }, prepare: true });
  t.equal(refused.summary.compared, rows.filter((row) => row.errno === errno).length);
  t.strictSame(refused.differences, []);
  const byKey = await replayed(rows, (await Service.start(t)).app, {
    selection: { key: Buffer.from("02", "hex") },
    prepare: true,
  });
  t.equal(byKey.summary.selected, 2, "the update of the key, and the batch that found it");
  t.strictSame(byKey.differences, []);
});

test("with the same ids, a range replays into a copy of what was there before it", async (t) => {
  const here = await Service.start(t);
  const rows = [...(await record(here))];
  const copy = await Service.start(t);
  await replayed(rows, copy.app, { selection: { beforeSeq: 10 } });
  const rest = await replayed(rows, copy.app, { selection: { afterSeq: 9 }, ids: new Ids({ same: true }) });
  t.strictSame(rest.differences, []);
  t.equal(rest.summary.left_out.length, 0);
});

/** Whoever waits by it has waited at once. */
class SteppedClock implements Clock {
  readonly slept: number[] = [];
  #nowMs: number;

  constructor(startMs: number) {
    this.#nowMs = startMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  async sleep(ms: number): Promise<void> {
    this.slept.push(ms);
    this.#nowMs += ms;
  }
}

test("speed: each command is sent when its moment is due, at a factor of the original pace", async (t) => {
  const service = await Service.start(t);
  const rows = (await record(service)).map((row, at) => ({ ...row, time_us: 5_000_000 + at * 1_000_000 }));
  const clock = new SteppedClock(100);
  const { app } = await Service.start(t);
  const { differences } = await replayed(rows, app, { pace: new Pace(4, clock) });
  t.strictSame(differences, []);
  t.strictSame(
    clock.slept,
    Array.from({ length: rows.length - 1 }, () => 250),
  );
  await clock.sleep(1_000_000);
  t.equal(new Pace(4, clock).leftMs(7), 0, "the first is due at once");
});

test("speed: where the clock was put back no time has passed, and the pace goes on from there", (t) => {
  const pace = new Pace(2, new SteppedClock(0));
  const due = [10_000_000, 12_000_000, 4_000_000, 4_000_000, 7_000_000, 1_000_000, 2_000_000].map((timeUs) =>
    pace.leftMs(timeUs),
  );
  t.strictSame(due, [0, 1000, 1000, 1000, 2500, 2500, 3000]);
  t.end();
});

test("a selection by time has events behind a clock that was put back", async (t) => {
  const service = await Service.start(t);
  const rows = await record(service);
  const step = Math.floor(rows.length / 2);
  const times = rows.map((row, at) => ({ ...row, time_us: (at < step ? 100 + at : at) * 1_000_000 }));
  const written = async (selection: Selection): Promise<number[]> => {
    const lines: string[] = [];
    const source: Source = {
      ...sourceOf(times),
      between: (sinceUs, untilUs) => between(times, sinceUs, untilUs),
    };
    await writeEvents(source, selection, async (piece) => void lines.push(...piece.trim().split("\n")));
    return lines.filter((line) => line !== "").map((line) => JSON.parse(line).seq);
  };
  const seqs = rows.map(({ seq }) => seq);
  const second = (step + 1) * 1_000_000;
  t.strictSame(await written({ untilUs: second }), seqs.slice(0, step + 2), "a clock that was put back was ahead");
  t.strictSame(await written({ sinceUs: second }), seqs.slice(step + 1));
  t.strictSame(await written({ sinceUs: second, untilUs: second }), [step + 2]);
  t.strictSame(await written({ sinceUs: second, afterSeq: step + 3 }), seqs.slice(step + 3));
  t.strictSame(await written({ untilUs: second, beforeSeq: 3 }), [1, 2]);
});

test("while nothing is due, sessions are kept that would end meanwhile, and no others", async (t) => {
  const here = await Service.start(t);
  const ttls = [600, 60, 60];
  const sessions: string[] = [];
  for (const ttl_seconds of ttls)
    sessions.push((await here.send("POST", "/v1/sessions", { ttl_seconds })).headers.location as string);
  await here.map(sessions[1] as string);
  await here.send("DELETE", sessions[2] as string);
  const pauses = here.log.rows.length;
  await here.send("GET", `${sessions[1]}/fds/3/elements/01000000`);
  await here.send("POST", `${sessions[1]}/renew`, { ttl_seconds: 1000 });
  await here.send("POST", `${sessions[0]}/bpf`, { cmd: "BPF_MAP_GET_NEXT_ID", attr: { start_id: 0 } });
  const rows = here.log.rows.map((row, at) => ({
    ...row,
    time_us: at < pauses ? 0 : (at - pauses + 1) * 1_000_000_000,
  }));
  const clock = new SteppedClock(0);
  const there = new Injected((await Service.start(t)).app);
  const used: [path: string, atSeconds: number][] = [];
  const send = (request: HttpRequest): Promise<HttpResponse> => {
    used.push([request.path.split("/").slice(0, 4).join("/"), clock.nowMs() / 1000]);
    return there.send(request);
  };
  const target = new ApiTarget({ send }, () => clock.nowMs());
  const { differences, summary } = await replayedTo(target, rows, { pace: new Pace(2, clock) });
  t.strictSame(differences, []);
  t.equal(summary.compared, rows.length);
  const moments = (session: number): number[] =>
    used.filter(([path]) => path === sessions[session]).map(([, at]) => at);
  t.strictSame(moments(0), [300, 600, 900, 1200, 1500, 1500], "at half its TTL, again and again; then its command");
  const every30 = (from: number, count: number): number[] => Array.from({ length: count }, (_, at) => from + 30 * at);
  t.strictSame(
    moments(1),
    [0, ...every30(30, 16), 500, ...every30(530, 16), 1000, 1500],
    "at half its TTL, from each of its commands on; then at half its new one",
  );
  t.strictSame(moments(2), [0], "it has ended");
});

test("a target that dies half way: what was answered stands, and the replay goes on from there with its ids", async (t) => {
  const rows = await record(await Service.start(t));
  const { app } = await Service.start(t);
  const injected = new Injected(app);
  let left = 12;
  const dying = {
    send: (request: Parameters<Injected["send"]>[0]) =>
      left-- > 0 ? injected.send(request) : Promise.reject(new TargetFailed("the power is gone")),
  };
  const ids = new Ids();
  const options = { source: sourceOf(rows), ids, selection: {}, prepare: false, pace: null, onDifference: t.fail };
  const replay = new Replay({ ...options, target: new ApiTarget(dying) });
  await t.rejects(replay.run(), { name: "TargetFailed", message: "the power is gone" });
  const { last_seq: afterSeq } = replay.summary;
  t.ok(afterSeq > 5 && afterSeq < rows.length);
  const later = new Ids();
  later.restore(JSON.parse(JSON.stringify(ids)));
  const rest = await replayed(rows, app, { ids: later, selection: { afterSeq } });
  t.strictSame(rest.differences, []);
  t.strictSame(rest.summary.left_out, []);
  t.equal(rest.summary.last_seq, rows.length);
});

test("a replay that is cancelled ends after the command it is at", async (t) => {
  const rows = await record(await Service.start(t));
  const controller = new AbortController();
  const { app } = await Service.start(t);
  const injected = new Injected(app);
  const target = new ApiTarget({
    send: (request) => {
      if (injected.requests.length === 4) controller.abort();
      return injected.send(request);
    },
  });
  const { summary } = await replayed(rows, app, { target, signal: controller.signal });
  t.equal(summary.last_seq, 5);
});

test("a target that answers out of order is found out by its seqs", async (t) => {
  const rows = await record(await Service.start(t));
  const { app } = await Service.start(t);
  const injected = new Injected(app);
  const target = new ApiTarget({
    send: async (request) => {
      const response = await injected.send(request);
      if (request.method !== "PUT") return response;
      return { ...response, headers: { ...response.headers, "mapledger-seq": "1" } };
    },
  });
  const { differences } = await replayed(rows, app, { target });
  t.match(differences, [{ differs: ["order"], got: { seq: 1 } }]);
});

test("an export that cannot be read says which line is wrong, after the events before it", async (t) => {
  const rows = await record(await Service.start(t));
  const lines = rows.map((row) => JSON.stringify(eventJson(row)));
  const good = JSON.parse(lines[2] as string);
  const broken: [line: string, message: RegExp][] = [
    ["{", /^line 3: event: JSON required/],
    ["[]", /^line 3: event: an object required/],
    [JSON.stringify({ ...good, seq: "3" }), /^line 3: seq: an integer from 1 on required, found "3"/],
    [JSON.stringify({ ...good, seq: 2 }), /^line 3: seq is 2: it must be more than 2/],
    [JSON.stringify({ ...good, key: "0g" }), /^line 3: key: hex digits required/],
    [JSON.stringify({ ...good, time: "noon" }), /^line 3: time: a time such as/],
    [JSON.stringify({ ...good, errno: "EWHAT" }), /^line 3: errno: /],
    [JSON.stringify({ ...good, attr: 5 }), /^line 3: attr: /],
    [JSON.stringify({ ...good, cmd: undefined }), /^line 3: cmd: a string required/],
  ];
  for (const [line, message] of broken) {
    const found: EventRow[] = [];
    const read = async (): Promise<void> => {
      const text = [...lines.slice(0, 2), line, ...lines.slice(3)].join("\n");
      for await (const row of readEventLines(pieces(text, 7))) found.push(row);
    };
    await t.rejects(read(), { name: "BadLine", message });
    t.strictSame(found, rows.slice(0, 2));
  }
  const all: EventRow[] = [];
  for await (const row of readEventLines(pieces(`${lines.join("\n")}\n\n`, 1000))) all.push(row);
  t.strictSame(all, rows, "read back, events are what they were");
});

test("a count that its elements, or an info_len that no kernel would have, and what was cut, is left out", async (t) => {
  const [row] = await record(await Service.start(t));
  const columns = { ...(row as EventRow), session: 0, map: 1, fd: null };
  const batch = { count: 4_000_000_000, elem_flags: "0", in_batch: null, out_batch: null };
  const leftOut = (more: Partial<EventRow>): unknown =>
    callOf(rowEvent({ ...columns, ...more }), new Ids({ same: true }));
  for (const key of [null, Buffer.alloc(9)])
    t.match(leftOut({ cmd: CMD.BPF_MAP_DELETE_BATCH, key, attr: JSON.stringify(batch) }), {
      leftOut: /its count says/,
    });
  const info = { cmd: CMD.BPF_OBJ_GET_INFO_BY_FD, session: 1, fd: 3, value: Buffer.alloc(88), out: "{}" };
  t.match(leftOut({ ...info, attr: '{"info_len":4000000000}' }), { leftOut: /info_len is larger/ });
  t.match(leftOut({ attr: '{"cut":{"value":5000000}}' }), { leftOut: /too large to be kept/ });
});

/** A text in pieces, as a stream brings it. */
async function* pieces(text: string, size: number): AsyncIterable<Buffer> {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}
