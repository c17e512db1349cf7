import { createHash } from "node:crypto";
import { test } from "tap";
import { Service as Recording } from "../../conformance/service.ts";
import { CMD } from "../../src/abi/service.ts";
import { type EventRow, eventRow, rowEvent } from "../../src/log/event.ts";
import { ANSWER_BYTES } from "../../src/log/kept_answer.ts";
import { Service } from "../http/service.ts";
import { replayed } from "../replay/support.ts";

const sha256 = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");
const u32 = (number: number): string => Buffer.from(Uint32Array.of(number).buffer).toString("hex");
const valueAt = (at: number, bytes: number): string => Buffer.alloc(bytes, at + 1).toString("hex");
const answerOf = ({ out }: EventRow): object | undefined => JSON.parse(out ?? "{}").answer;

/** The events of a log that has a hash of `count` elements with values of `bytes`, and then `reads` of it. */
function recorded(count: number, bytes: number, reads: (service: Recording, map_fd: number) => void): EventRow[] {
  const service = new Recording();
  const shape = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: bytes, max_entries: count };
  const map_fd = service.bpf({ cmd: "BPF_MAP_CREATE", attr: shape }).ret;
  for (let at = 0; at < count; at++)
    service.bpf({ cmd: "BPF_MAP_UPDATE_ELEM", attr: { map_fd, key: u32(at), value: valueAt(at, bytes) } });
  const before = service.log.rows.length;
  reads(service, map_fd);
  const { state, fold } = service.cells();
  if (JSON.stringify(state) !== JSON.stringify(fold)) throw new Error("the log does not add up to the state");
  return service.log.rows.slice(before);
}

test("a value of more than 4 KiB is kept by its beginning, its length and its SHA-256", (t) => {
  const [exact, more] = [ANSWER_BYTES, ANSWER_BYTES + 8];
  for (const cmd of ["BPF_MAP_LOOKUP_ELEM", "BPF_MAP_LOOKUP_AND_DELETE_ELEM"]) {
    const read = (service: Recording, map_fd: number): void => {
      const answer = service.bpf({ cmd, attr: { map_fd, key: u32(0) } });
      t.ok((answer.attr.value as string).length >= 2 * exact, "the caller gets all of it");
    };
    const [whole] = recorded(1, exact, read) as [EventRow];
    t.equal(whole.value?.length, exact);
    t.equal(answerOf(whole), undefined);
    const [cut] = recorded(1, more, read) as [EventRow];
    const value = Buffer.from(valueAt(0, more), "hex");
    t.same(cut.value, value.subarray(0, exact));
    t.same(answerOf(cut), { value: { bytes: more, sha256: sha256(value) } }, cmd);
    t.same(eventRow(rowEvent(cut)), cut, "an event that was read is written as it was");
  }
  t.end();
});

test("of a batch the first elements that fit are kept; those that it took out by all their keys", (t) => {
  const [count, bytes] = [100, 96];
  for (const cmd of ["BPF_MAP_LOOKUP_BATCH", "BPF_MAP_LOOKUP_AND_DELETE_BATCH"]) {
    let [keys, values] = [Buffer.alloc(0), Buffer.alloc(0)];
    const [row] = recorded(count, bytes, (service, map_fd) => {
      const { attr } = service.bpf({ cmd, attr: { map_fd, count } });
      [keys, values] = [Buffer.from(attr.keys as string, "hex"), Buffer.from(attr.values as string, "hex")];
    }) as [EventRow];
    t.equal(keys.length, count * 4, "the caller gets all");
    const takes = cmd === "BPF_MAP_LOOKUP_AND_DELETE_BATCH";
    const kept = Math.floor(ANSWER_BYTES / (takes ? bytes : bytes + 4));
    t.same(row.value, values.subarray(0, kept * bytes));
    t.same(row.key, takes ? keys : keys.subarray(0, kept * 4));
    t.same(answerOf(row), {
      ...(!takes && { key: { bytes: keys.length, sha256: sha256(keys) } }),
      value: { bytes: values.length, sha256: sha256(values) },
    });
    t.same(eventRow(rowEvent(row)), row, "an event that was read is written as it was");
  }
  t.end();
});

test("a loop of small requests for large answers costs the log no more than small answers do", (t) => {
  const rows = recorded(64, 60_000, (service, map_fd) => {
    for (let at = 0; at < 64; at++) service.bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd, key: u32(at) } });
    service.bpf({ cmd: "BPF_MAP_LOOKUP_BATCH", attr: { map_fd, count: 64 } });
    service.readMemory(map_fd, 0, 4096);
  });
  for (const { cmd, key, value, attr, out } of rows) {
    const bytes = (key?.length ?? 0) + (value?.length ?? 0) + (attr?.length ?? 0) + (out?.length ?? 0);
    t.ok(bytes < ANSWER_BYTES + 512, `command ${cmd}: ${bytes} bytes`);
  }
  t.end();
});

test("a replay compares what was cut by length and SHA-256; events of older logs by all that they have", async (t) => {
  const service = await Service.start(t);
  const map = await service.map(await service.session(), { value_size: 6_000, max_entries: 4 });
  for (let at = 0; at < 3; at++) await service.send("PUT", `${map}/elements/${u32(at)}`, { value: valueAt(at, 6_000) });
  await service.send("GET", `${map}/elements/${u32(1)}`);
  await service.send("POST", `${map}/batch/lookup`, { count: 4 });
  await service.send("POST", `${map}/batch/lookup_and_delete`, { count: 4 });
  const { rows } = service.log;
  const same = await replayed(rows, (await Service.start(t)).app);
  t.same(same.differences, []);
  t.equal(same.summary.compared, rows.length);

  const lookup = rows.find(({ cmd }) => cmd === CMD.BPF_MAP_LOOKUP_ELEM) as EventRow;
  const others = [
    { sha256: sha256(Buffer.from(valueAt(1, 6_000), "hex").fill(9, 5_999)), bytes: 6_000 },
    { sha256: sha256(Buffer.from(valueAt(1, 6_000), "hex")), bytes: 5_999 },
  ];
  for (const value of others) {
    const changed = rows.map((row) => (row === lookup ? { ...row, out: JSON.stringify({ answer: { value } }) } : row));
    const { differences } = await replayed(changed, (await Service.start(t)).app);
    t.match(differences, [{ seq: lookup.seq, differs: ["value"] }]);
  }

  const whole = Buffer.from(valueAt(1, 6_000), "hex");
  for (const [value, differs] of [
    [whole, []],
    [Buffer.from(whole).fill(9, 5_999), [["value"]]],
  ] as const) {
    const older = rows.map((row) => (row === lookup ? { ...row, value, out: null } : row));
    const { differences } = await replayed(older, (await Service.start(t)).app);
    t.same(
      differences.map((difference) => difference.differs),
      differs,
    );
  }
});
