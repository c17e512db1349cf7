import fc from "fast-check";
import { test } from "tap";
import type { EventRow } from "../../src/log/event.ts";
import { readEventLine, readLongEventLine } from "../../src/replay/event_line.ts";
import { readEventLines } from "../../src/replay/lines.ts";
import { SEED } from "../support/seed.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
/** Of blank lines, or of one long line, between two pauses: what json_pieces reads is four times as much. */
const PIECE_BYTES = 64 * KIB;
const EVENTS_MAX = 64;

const EVENT = {
  seq: 1,
  time: "2026-11-23T20:00:00.000000Z",
  session: 1,
  caller: "a",
  cmd: "BPF_MAP_UPDATE_ELEM",
  map: 1,
  fd: 3,
  key: "00000000",
  value: "2a000000",
  flags: 0,
  ret: 0,
  errno: null,
  detail: null,
  attr: null,
  out: null,
};

interface Read {
  readonly rows: readonly EventRow[];
  readonly pauses: number;
  /** The most events that came between two pauses. */
  readonly together: number;
  readonly failed: string | null;
}

/** What comes of an export's text, which comes in pieces of so many bytes. */
async function read(text: string, pieceBytes = text.length): Promise<Read> {
  const bytes = Buffer.from(text);
  async function* pieces(): AsyncIterable<Buffer> {
    for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
  }
  const rows: EventRow[] = [];
  let [pauses, since, together] = [0, 0, 0];
  const pause = async (): Promise<void> => {
    pauses++;
    since = 0;
  };
  const told = (failed: string | null): Read => ({ rows, pauses, together, failed });
  try {
    for await (const row of readEventLines(pieces(), { bytesMax: 8 * MIB, pause })) {
      rows.push(row);
      together = Math.max(together, ++since);
    }
    return told(null);
  } catch (error) {
    return told((error as Error).message);
  }
}

test("blank lines are read in pieces, however they come", async (t) => {
  for (const blank of ["\n", " \r\n", `${" ".repeat(999)}\n`])
    for (const pieceBytes of [16, 1000, MIB]) {
      const { pauses, failed } = await read(blank.repeat(Math.floor((4 * PIECE_BYTES) / blank.length)), pieceBytes);
      t.equal(failed, null);
      t.ok(pauses >= 3, `${pauses} pauses, pieces of ${pieceBytes}`);
    }
});

test("of short lines few events come together", async (t) => {
  const lines = Array.from({ length: 1000 }, (_, at) => JSON.stringify({ ...EVENT, seq: at + 1 }));
  for (const pieceBytes of [100, MIB]) {
    const { rows, together } = await read(lines.join("\n"), pieceBytes);
    t.equal(rows.length, 1000);
    t.ok(together <= EVENTS_MAX, `${together} of them`);
  }
});

test("a long line is read in pieces, whatever is in it, and what is no event is refused by its number", async (t) => {
  const repeated = (head: string, item: string, tail: string): string =>
    head + item.repeat(Math.floor((2 * MIB) / item.length)) + tail;
  const head = `${JSON.stringify(EVENT).slice(0, -1)},`;
  /** 2 MiB are read in eight pieces; some ends before. */
  const rows: readonly [what: string, line: string, failed: RegExp | null, pauses?: number][] = [
    ["fields", repeated('{"a":1', ',"a":1', "}"), /^line 1: key: a string required, found undefined$/],
    ["fields behind an event's", repeated(head, '"a":1,', '"b":1}'), null],
    ["fields of its attr", repeated(`${head}"attr":{`, '"a":1,', '"b":1}}'), null],
    [
      "numbers",
      repeated(`${head}"attr":{"capabilities":[`, "0,", "0]}}"),
      /^line 1: attr.capabilities: .* which is too long$/,
    ],
    [
      "numbers by parts",
      `${head}"attr":{${Array.from({ length: 60 }, (_, at) => `"a${at}":[${"0,".repeat(30_000)}0]`)}}}`,
      /more than 32768 values/,
    ],
    ["lists in each other", repeated(`${head}"out":`, "[", ""), /^line 1: event: lists and objects are nested/, 0],
    ["blanks", repeated(head, " ", '"b":1}'), /^line 1: event: more than 65536 blanks/, 0],
    ["digits", repeated(`${head}"flags":`, "1", "}"), /^line 1: event: a number has more than/, 0],
    ["a text", repeated(`${head}"detail":"`, "g", '"}'), /^line 1: detail: it is longer than 65536 bytes$/],
    ["no hex", repeated(`${head}"value":"00`, "g", '"}'), /^line 1: value: hex digits required, found "g" at 2$/],
    ["escapes", repeated(`${head}"value":"`, "\\u0030\\u0030", '"}'), null],
    ["no end", repeated(`${head}"value":"`, "0", ""), /^line 1: event: JSON required/],
    ["a list", repeated("[", "0,", "0]"), /^line 1: event: an object required/],
    ["elements that it took along", repeated(`${head}"out":{"gone":[`, '[1,"00"],', '[1,"00"]]}}'), null],
  ];
  for (const [what, line, failed, least = 7] of rows) {
    const found = await read(line);
    if (failed === null) t.equal(found.failed, null, what);
    else t.match(found.failed, failed, what);
    t.ok(found.pauses >= least, `${what}: ${found.pauses} pauses`);
  }
  t.match(await read(`\n\n{${" ".repeat(8 * MIB)}`), { failed: "line 3: it is longer than 8388608 bytes" });
});

test("a long line is the event that it is when it is read at once", async (t) => {
  const hex = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString("hex"));
  const nullable = <Value>(value: fc.Arbitrary<Value>) => fc.option(value);
  const number = fc.integer({ min: 1, max: 1e6 });
  const event = fc.record({
    session: nullable(number),
    caller: fc.string(),
    peer: fc.constantFrom(undefined, null, "127.0.0.1"),
    cmd: fc.constantFrom(
      "BPF_MAP_UPDATE_BATCH",
      "BPF_MAP_DELETE_ELEM",
      "MIRROR_DRIFT",
      "SESSION_END",
      "nonsense",
      "99",
    ),
    map: nullable(number),
    fd: nullable(number),
    key: nullable(hex),
    value: nullable(hex),
    flags: fc.constantFrom(0, 1, "18446744073709551615"),
    ret: fc.integer({ min: -1, max: 9 }),
    errno: fc.constantFrom(null, "E2BIG", "E4711"),
    detail: nullable(fc.string()),
    attr: nullable(fc.record({ count: fc.nat(), in_batch: nullable(hex), reason: fc.string(), other: fc.jsonValue() })),
    out: nullable(fc.record({ count: fc.nat(), stored_values: hex, gone: fc.constant([[1, "00"]]) })),
  });
  await fc.assert(
    fc.asyncProperty(event, async (fields) => {
      const line = JSON.stringify({ ...EVENT, ...fields });
      t.strictSame(await readLongEventLine(Buffer.from(line), async () => {}), readEventLine(line));
    }),
    { seed: SEED, numRuns: 500 },
  );
  const value = "5a".repeat(200 * KIB);
  const long = JSON.stringify({
    ...EVENT,
    key: value,
    value,
    attr: { in_batch: value },
    out: { stored_values: value },
  });
  t.strictSame((await read(long)).rows, [readEventLine(long)]);
});
