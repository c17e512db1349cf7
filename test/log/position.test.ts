import * as fc from "fast-check";
import { test } from "tap";
import { CanonicalWriter, rowBytes } from "../../src/log/canonical.ts";
import type { EventRow } from "../../src/log/event.ts";
import { ledgerKey, Marks, PositionWriter, parsePosition } from "../../src/log/position.ts";
import { HASH_BYTES } from "../../src/tlog/merkle.ts";
import { SEED } from "../support/seed.ts";

const LEDGER = { id: "2b4f7f5c-7a2e-4c55-9b7e-8f0f2f7f0d11", life: "00000000-0000-4000-8000-000000000002" };
const U32_MAX = 2 ** 32 - 1;
const U48_MAX = 2 ** 48 - 1;

const ROW: EventRow = {
  seq: 17,
  time_us: 1_700_000_000_000_000,
  session: 1,
  caller: "anonymous",
  cmd: 2,
  map: 1,
  fd: 3,
  key: Buffer.from("01000000", "hex"),
  value: Buffer.from("2a000000", "hex"),
  flags: 0,
  ret: 0,
  errno: 0,
  detail: null,
  attr: null,
  out: null,
};

test("a position says what was written, and no other text is one", (t) => {
  const writer = new PositionWriter(LEDGER);
  const key = ledgerKey(LEDGER);
  const written = fc.record({
    seq: fc.maxSafeNat().map((seq) => seq % U48_MAX),
    mark: fc.maxSafeNat().map((mark) => mark % U48_MAX),
    map: fc.integer({ min: 1, max: U32_MAX }),
    changes: fc.integer({ min: 1, max: U32_MAX }),
    cut: fc.nat(48),
    bit: fc.nat(5),
  });
  fc.assert(
    fc.property(written, ({ seq, mark, map, changes, cut, bit }) => {
      const ofMap = new PositionWriter(LEDGER, map);
      const texts = [
        [writer.at(seq, mark), { map: null, place: "at" }],
        [writer.behind(seq, mark), { map: null, place: "behind" }],
        [ofMap.at(seq, mark), { map, place: "at" }],
        [ofMap.behind(seq, mark), { map, place: "behind" }],
        [ofMap.snapshot(seq, mark), { map, place: "snapshot" }],
        [ofMap.changes(seq, mark, changes), { map, place: { changes } }],
      ] as const;
      for (const [text, told] of texts) {
        t.strictSame(parsePosition(text), { ...key, seq, mark, ...told });
        if (!/^[A-Za-z][A-Za-z0-9_-]+$/.test(text)) t.fail(`${text} has to stand in a URL and a header as it is`);
        const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        const at = cut % text.length;
        const other = digits[digits.indexOf(text[at] as string) ^ (1 << bit)];
        for (const wrong of [text.slice(0, at), `${text.slice(0, at)}${other}${text.slice(at + 1)}`, `${text}A`])
          if (parsePosition(wrong) !== null) t.fail(`${wrong} is taken for ${text}`);
      }
    }),
    { seed: SEED, numRuns: 200 },
  );
  for (const text of ["", "17", "E", "x".repeat(50), "E".repeat(10_000)])
    t.equal(parsePosition(text), null, text.slice(0, 50));
  t.end();
});

test("within a snapshot or an event there is no position of the log: only a map's watch stands there", (t) => {
  const writer = new PositionWriter(LEDGER);
  t.equal(parsePosition(writer.snapshot(17, 1)), null);
  t.equal(parsePosition(writer.changes(17, 1, 5)), null);
  t.end();
});

test("an event's mark tells it from any other, and is told by its leaf hash", (t) => {
  const marks = new Marks(LEDGER.life);
  const mark = marks.ofRow(ROW);
  const leaf = Buffer.alloc(HASH_BYTES);
  new CanonicalWriter().leafHash(rowBytes(ROW), leaf, 0);
  t.equal(marks.ofLeaf(leaf), mark);
  t.ok(mark > 0 && mark <= U48_MAX);
  for (const other of [{ value: Buffer.alloc(4) }, { time_us: 1 }, { out: "{}" }, { fd: null }])
    t.not(marks.ofRow({ ...ROW, ...other }), mark, Object.keys(other).join());
  t.not(new Marks("another life").ofRow(ROW), mark, "who does not know the life cannot check a guess");
  t.end();
});
