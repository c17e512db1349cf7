import { createHash } from "node:crypto";
import fc from "fast-check";
import { test } from "tap";
import { CanonicalWriter, ENTRY_BYTES, entryOf, readCanonical, rowBytes } from "../../src/log/canonical.ts";
import type { EventRow } from "../../src/log/event.ts";
import { HASH_BYTES, leafHash } from "../../src/tlog/merkle.ts";
import { SEED } from "../support/seed.ts";

const writer = new CanonicalWriter();
const ROW: EventRow = {
  seq: 17,
  time_us: 1_767_225_600_000_000,
  session: 1,
  caller: "alice",
  cmd: 2,
  map: 3,
  fd: 4,
  key: Buffer.from("01000000", "hex"),
  value: Buffer.alloc(0),
  flags: 1,
  ret: -1,
  errno: 17,
  detail: "\u00e4",
  attr: null,
  out: "{}",
};

test("canonical bytes are laid out as canonical.ts says", async (t) => {
  const expected = [
    "01 2f",
    "0000000000000011 0006474846204000 0000000000000001 0000000000000002",
    "0000000000000003 0000000000000001 ffffffffffffffff 0000000000000011",
    "00000005 616c696365",
    "0000000000000004",
    "00000004 01000000",
    "00000000",
    "00000002 c3a4",
    "00000002 7b7d",
  ]
    .join("")
    .replaceAll(" ", "");
  t.equal(writer.bytes(rowBytes(ROW)).toString("hex"), expected);
});

test("the entry is a line and the SHA-256 of these bytes, its leaf hash is RFC 6962's", async (t) => {
  const bytes = writer.bytes(rowBytes(ROW));
  const entry = writer.entry(rowBytes(ROW));
  const digest = createHash("sha256").update(bytes).digest();
  t.same(entry, Buffer.concat([Buffer.from("mapledger event v1\n"), digest]));
  t.equal(entry.length, ENTRY_BYTES);
  t.same(entryOf(bytes), entry);
  const target = Buffer.alloc(HASH_BYTES + 2);
  writer.leafHash(rowBytes(ROW), target, 1);
  t.same(target.subarray(1, 1 + HASH_BYTES), leafHash(entry));
});

test("columns in hex, and integers as digits, are the same bytes", async (t) => {
  const hex = rowBytes(ROW).map((column) =>
    Buffer.isBuffer(column)
      ? column.toString("hex").toUpperCase()
      : typeof column === "number"
        ? String(column)
        : column,
  );
  t.same(writer.bytes(hex as unknown as ReturnType<typeof rowBytes>), writer.bytes(rowBytes(ROW)));
});

test("every other value of every column gives other bytes", async (t) => {
  const others: { [Column in keyof EventRow]: EventRow[Column][] } = {
    seq: [18, -17, 2 ** 32 + 17],
    time_us: [ROW.time_us + 1, 0],
    session: [0, 257],
    caller: ["alic", "alicee", "", "Alice"],
    cmd: [3, 2 + 2 ** 40],
    map: [0, 2],
    fd: [null, 0, 3],
    key: [null, Buffer.alloc(0), Buffer.from("0100000000", "hex"), Buffer.from("01000001", "hex")],
    value: [null, Buffer.from("00", "hex")],
    flags: [0, -1, 2n ** 60n + 1n, 2n ** 60n],
    ret: [0, 1, 0xffff_ffff],
    errno: [0, 16],
    detail: [null, "", "a"],
    attr: ["", "{}", "null"],
    out: [null, "", "{ }"],
  };
  const seen = new Set([writer.bytes(rowBytes(ROW)).toString("hex")]);
  let count = 1;
  for (const [column, values] of Object.entries(others))
    for (const value of values) {
      seen.add(writer.bytes(rowBytes({ ...ROW, [column]: value })).toString("hex"));
      count++;
    }
  t.equal(seen.size, count);
});

const columns = fc.option(fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)));
const texts = fc.option(fc.string({ unit: "binary", maxLength: 40 }));
const integers = fc.maxSafeInteger();
const rows: fc.Arbitrary<EventRow> = fc.record({
  seq: integers,
  time_us: integers,
  session: integers,
  caller: fc.string({ unit: "binary" }),
  cmd: integers,
  map: integers,
  fd: fc.option(integers),
  key: columns,
  value: columns,
  flags: fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n),
  ret: integers,
  errno: integers,
  detail: texts,
  attr: texts,
  out: texts,
});

test("every row is read back from its bytes, and from no others", async (t) => {
  fc.assert(
    fc.property(rows, (row) => {
      const bytes = writer.bytes(rowBytes(row));
      t.same(readCanonical(bytes), row);
      for (let end = 0; end < bytes.length; end++) t.equal(readCanonical(bytes.subarray(0, end)), null);
      t.equal(readCanonical(Buffer.concat([bytes, Buffer.alloc(1)])), null);
    }),
    { seed: SEED, numRuns: 20 },
  );
  t.equal(readCanonical(Buffer.from([2])), null);
});

test("an event of a megabyte is hashed like any other", async (t) => {
  const row = rowBytes({ ...ROW, value: Buffer.alloc(2 ** 20, 7) });
  t.same(writer.entry(row), entryOf(writer.bytes(row)));
  t.same(writer.entry(rowBytes(ROW)), entryOf(writer.bytes(rowBytes(ROW))));
});
