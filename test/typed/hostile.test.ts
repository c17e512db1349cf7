import t from "tap";
import { Btf } from "../../src/btf/btf.ts";
import { BtfWriter } from "../../src/btf/writer.ts";
import { Form } from "../../src/typed/form.ts";
import { Misfit } from "../../src/typed/misfit.ts";
import { described, formOf, parsed } from "./subjects.ts";

/** BTF that no compiler writes: answered with a reason, in a time that grows with its size. */
const U8 = { bits: 8, offset: 0, encoding: 0 };

function reasonOf(blob: Buffer, id: number): string {
  const btf = Btf.parse(blob);
  if (!(btf instanceof Btf)) throw new Error(btf.detail);
  const form = Form.make(btf, id, { bytes: btf.size(id) ?? 0, isKey: false, isPrefix: false });
  return form instanceof Misfit ? String(form) : "";
}

const member = (name: string, type: number, at: number) => ({ name, type, offsetBits: 8 * at, bits: 0 });

t.test("types without a form say why", (t) => {
  const rows: readonly (readonly [title: string, write: (writer: BtfWriter, u8: number) => number, reason: RegExp])[] =
    [
      [
        "a struct that contains itself",
        (writer) => writer.struct("a", 8, [member("a", 2, 0)]),
        /nested in more than 64/,
      ],
      ["an array of itself", (writer, u8) => writer.array(2, u8, 1), /./],
      ["typedefs in a circle", (writer) => writer.typedef("a", 2), /./],
      [
        "2^32 elements of no bytes",
        (writer, u8) => writer.array(writer.struct("a", 0, []), u8, 2 ** 32 - 1),
        /scalars in a value/,
      ],
      ["2^20 bytes", (writer, u8) => writer.array(u8, u8, 2 ** 20), /1048576 scalars in a value \(limit 262144\)/],
      [
        "overlapping members",
        (writer, u8) => writer.struct("a", 2, [member("a", writer.array(u8, u8, 2), 0), member("b", u8, 1)]),
        /\.b: overlaps another/,
      ],
      [
        "a member beyond the end",
        (writer, u8) => writer.struct("a", 2, [member("a", u8, 2)]),
        /\.a: ends beyond the 2 bytes/,
      ],
      [
        "a pointer within a byte",
        (writer) => writer.struct("a", 16, [{ ...member("a", writer.pointer(0), 0), offsetBits: 3 }]),
        /begins within a byte/,
      ],
      [
        "a bitfield of a struct",
        (writer) => writer.struct("a", 4, [{ ...member("a", writer.struct("b", 4, []), 0), bits: 3 }]),
        /no integer/,
      ],
      ["void", () => 0, /values cannot have/],
      [
        "names of many characters",
        (writer, u8) =>
          writer.struct(
            "a",
            4,
            Array.from({ length: 4 }, (_, at) => member("n".repeat(2 ** 21), u8, at)),
          ),
        /names have more than/,
      ],
      [
        "much text for few bytes",
        (writer, u8) =>
          writer.union(
            "a",
            1,
            Array.from({ length: 60_000 }, (_, at) => member(`member${at}`, u8, 0)),
          ),
        /may need \d+ characters/,
      ],
      [
        "large views of a union",
        (writer, u8) =>
          writer.union(
            "a",
            2 ** 20,
            Array.from({ length: 100 }, (_, at) =>
              member(`m${at}`, writer.struct("", 2 ** 20, [member("x", u8, 0)]), 0),
            ),
          ),
        /scalars in a value/,
      ],
    ];
  for (const [title, write, reason] of rows) {
    const writer = new BtfWriter();
    const id = write(writer, writer.int("u8", 1, U8));
    t.match(reasonOf(writer.blob(), id), reason, title);
  }
  t.end();
});

t.test("a struct in 63 others has forms, in 200 others it has none", (t) => {
  for (const [levels, hasForm] of [
    [63, true],
    [200, false],
  ] as const) {
    const writer = new BtfWriter();
    let inner = writer.int("u8", 1, U8);
    for (let level = 0; level < levels; level++) inner = writer.struct("a", 1, [member("a", inner, 0)]);
    t.equal(reasonOf(writer.blob(), inner) === "", hasForm, `${levels} levels`);
  }
  t.end();
});

t.test("the depth is bounded however the structs share each other", (t) => {
  const writer = new BtfWriter();
  let last = writer.int("u8", 1, U8);
  const tops: number[] = [];
  for (let level = 0; level < 1000; level++) {
    last = writer.struct("a", 1, [member("a", last, 0)]);
    if (level % 60 === 59) tops.push(last);
  }
  const all = writer.struct(
    "all",
    tops.length,
    tops.map((type, at) => member(`m${at}`, type, at)),
  );
  t.match(reasonOf(writer.blob(), all), /nested in more than 64/);
  t.end();
});

t.test("65,535 members that share one long name, and one typedef with a long static_map", (t) => {
  const writer = new BtfWriter();
  const coded = writer.typedef("op", writer.int("u8", 1, U8));
  const labels = Object.fromEntries(Array.from({ length: 4096 }, (_, at) => [String(at), `text ${at}`]));
  writer.declTag(`static_map:${JSON.stringify(labels)}`, coded);
  const id = writer.struct(
    "a",
    65_535,
    Array.from({ length: 65_535 }, (_, at) => member(`m${at}`, coded, at)),
  );
  const form = formOf(parsed(writer.blob()), id);
  t.match(form.typed(Buffer.alloc(65_535, 7)), /^\{"m0":"text 7",/);
  t.end();
});

t.test("60,000 bitfields of an enumeration of 60,000 names", (t) => {
  const writer = new BtfWriter();
  const values = Array.from({ length: 60_000 }, (_, at) => [`NAME_${at}`, BigInt(at)] as const);
  const type = writer.enum("many", 4, { signed: false, values });
  const members = Array.from({ length: 60_000 }, (_, at) => ({ name: `m${at}`, type, offsetBits: 17 * at, bits: 17 }));
  const id = writer.struct("a", 17 * 7500, members);
  const form = formOf(parsed(writer.blob()), id);
  t.match(form.typed(Buffer.alloc(form.bytes)), /^\{"m0":"NAME_0",/);
  t.end();
});

t.test("two members of one name: bpftool's text as it is, no typed form, no input", (t) => {
  const writer = new BtfWriter();
  const u8 = writer.int("u8", 1, U8);
  const form = formOf(parsed(writer.blob()), u8);
  t.equal(form.typed(Buffer.from([1])), "1");
  const twice = writer.struct("twice", 2, [member("a", u8, 0), member("a", u8, 1)]);
  const other = formOf(parsed(writer.blob()), twice);
  t.equal(other.formatted(Buffer.from([1, 2])), '{"a":1,"a":2}');
  t.equal(String(other.typed(Buffer.from([1, 2]))), ': struct twice has two members "a"');
  t.equal(String(other.fromTyped({ a: 1 })), ': struct twice has two members "a"');
  t.end();
});

t.test("64 KiB of bytes in nested arrays have both forms", (t) => {
  const form = described("u8[256][256]", 65_536);
  const bytes = Buffer.alloc(65_536, 200);
  const text = form.typed(bytes) as string;
  t.equal(text, form.formatted(bytes));
  t.same(form.fromTyped(JSON.parse(text)), bytes);
  t.end();
});

t.test("names of Object's prototype are no members", (t) => {
  const form = described({ toString: "u8", a: "u8" }, 2);
  t.equal(String(form.fromTyped({ a: 1 })), ".toString: required");
  t.equal(form.typed(Buffer.from([1, 2])), '{"toString":1,"a":2}');
  t.end();
});
