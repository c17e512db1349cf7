import t from "tap";
import { BtfWriter } from "../../src/btf/writer.ts";
import { INT_ENCODING } from "../../src/maps/btf_types.ts";
import { described, formOf, parsed } from "./subjects.ts";

/** The rules of docs/typed.md, one by one: bytes, and both forms of them. */
const U8 = { bits: 8, offset: 0, encoding: 0 };
const both = { "@union": { small: "u8", text: "char[4]", whole: "u32" } };
const state = { "@enum": { NEW: 0, OPEN: 1, HALF: 7 }, name: "state", bytes: 1 };

/** null: there is no typed form, for the reason that stands in its place. */
const ROWS: readonly (readonly [rule: string, type: unknown, hex: string, typed: string, formatted: string])[] = [
  ["an integer of 32 bits", "u32", "ffffffff", "4294967295", "4294967295"],
  ["a signed one", "s16", "feff", "-2", "-2"],
  ["one of 64 bits", "u64", "ffffffffffffffff", '"18446744073709551615"', "18446744073709551615"],
  ["a small one of 64 bits", "s64", "ffffffffffffffff", '"-1"', "-1"],
  ["one below 2^53", "s64", "000000000000e0ff", '"-9007199254740992"', "-9007199254740992"],
  [
    "one of 128 bits",
    "u128",
    "01000000000000000000000000000080",
    '"170141183460469231731687303715884105729"',
    '"0x80000000000000000000000000000001"',
  ],
  ["a negative one", "s128", "ff".repeat(16), '"-1"', `"0x${"f".repeat(32)}"`],
  ["bool", "bool[2]", "0100", "[true,false]", "[true,false]"],
  ["a bool of 7", "bool", "07", ": a bool of 7", "true"],
  ["an enumerator", state, "07", '"HALF"', '"HALF"'],
  ["a number that no enumerator has", state, "ff", "255", "-1"],
  ["a float", "float", "0000c03f", "1.5", "1.5"],
  ["a float that is not short", "float", "cdcccc3d", "0.10000000149011612", "0.10000000149011612"],
  ["no number", "double", "000000000000f87f", '"NaN"', '"NaN"'],
  ["another NaN", "float", "0000c0ff", ": a NaN with bits of its own: 0000c0ff", '"NaN"'],
  ["infinity", "double", "000000000000f0ff", '"-Infinity"', '"-Infinity"'],
  ["the other zero", "float", "00000080", '"-0"', '"-0"'],
  [
    "a float of 16 bytes",
    { "@float": 16 },
    "000102030405060708090a0b0c0d0e0f",
    '"000102030405060708090a0b0c0d0e0f"',
    '"000102030405060708090a0b0c0d0e0f"',
  ],
  ["a pointer", "pointer", "00f0ffff8188ffff", '"0xffff8881fffff000"', "18446612690659962880"],
  ["a string", "char[6]", "616263000000", '"abc"', '"abc"'],
  ["a string with quotes and a backslash", "char[4]", "225c2700", '"\\"\\\\\'"', '"\\"\\\\\'"'],
  ["a string without its NUL", "char[3]", "616263", "[97,98,99]", "[97,98,99]"],
  ["bytes that are no text", "char[3]", "ff0100", "[-1,1,0]", "[-1,1,0]"],
  ["bytes after NUL", "char[4]", "61006200", ": bytes after NUL", '"a"'],
  ["strings in an array", "char[2][3]", "616200630000", '["ab","c"]', '["ab","c"]'],
  ["char by a typedef", "char_t[3]", "616200", '"ab"', "[97,98,0]"],
  [
    "char that the compiler says is one",
    { "@array": { "@int": 1, bits: 8, encoding: "char" }, count: 2 },
    "ff5c",
    "[-1,92]",
    '["\\u00ff","\\\\"]',
  ],
  ["a list of no elements", { a: "u8", rest: "u32[0]" }, "01000000", '{"a":1,"rest":[]}', '{"a":1,"rest":[]}'],
  ["lists in lists", "u8[2][3]", "010203040506", "[[1,2,3],[4,5,6]]", "[[1,2,3],[4,5,6]]"],
  ["padding", { a: "u8", b: "u16" }, "01ff0200", '{"a":1,"b":2}', '{"a":1,"b":2}'],
  [
    "all views of a union",
    both,
    "61620000",
    '{"small":97,"text":"ab","whole":25185}',
    '{"small":97,"text":"ab","whole":25185}',
  ],
  [
    "a view that has no typed form",
    both,
    "61006200",
    '{"small":97,"whole":6422625}',
    '{"small":97,"text":"a","whole":6422625}',
  ],
  [
    "a union of which no other view has all",
    { "@union": { bad: "bool", small: "u8[1]", more: "char[2]" } },
    "6101",
    '{"small":[97],"more":[97,1]}',
    '{"bad":true,"small":[97],"more":[97,1]}',
  ],
  [
    "anonymous members",
    {
      "@struct": [
        { type: { a: "u8" }, bit: 0 },
        { name: "b", type: "u8", bit: 8 },
        { type: { "@union": { c: "u8", d: "s8" } }, bit: 16 },
      ],
    },
    "0102ff",
    '{"a":1,"b":2,"c":255,"d":-1}',
    '{"":{"a":1,"c":255,"d":-1},"b":2}',
  ],
  [
    "bitfields",
    {
      "@struct": [
        { name: "a", type: "u32", bit: 0, bits: 3 },
        { name: "b", type: "s32", bit: 3, bits: 5 },
        { name: "c", type: "bool", bit: 8, bits: 1 },
        { name: "d", type: state, bit: 9, bits: 4 },
      ],
      bytes: 4,
    },
    "fd0f0000",
    '{"a":5,"b":-1,"c":true,"d":"HALF"}',
    '{"a":"0x5","b":"-0x1","c":"0x1","d":"0x7"}',
  ],
  [
    "a bitfield of 60 bits",
    {
      "@struct": [
        { name: "a", type: "u64", bit: 0, bits: 4 },
        { name: "b", type: "u64", bit: 4, bits: 60 },
      ],
      bytes: 8,
    },
    "feffffffffffffff",
    '{"a":14,"b":"1152921504606846975"}',
    '{"a":"0xe","b":"0xfffffffffffffff"}',
  ],
  ["an integer of odd width", { "@int": 4, bits: 20, offset: 4, encoding: "signed" }, "f0ffff00", "-1", '"-0x1"'],
  ["a lock", { "@struct": { val: "u32" }, name: "bpf_spin_lock" }, "00000000", '{"val":0}', '{"val":0}'],
  [
    "a data section",
    {
      "@section": [
        { name: "count", type: "u32", bit: 0 },
        { name: "on", type: "bool", bit: 64 },
      ],
      name: ".bss",
      bytes: 16,
    },
    "05000000000000000100000000000000",
    '{"count":5,"on":true}',
    '{".bss":[{"count":5},{"on":true}]}',
  ],
];

t.test("values in both forms, and back to the same bytes", (t) => {
  for (const [rule, type, hex, typed, formatted] of ROWS) {
    const bytes = Buffer.from(hex, "hex");
    const form = described(type, bytes.length);
    t.equal(String(form.typed(bytes)), typed, rule);
    t.equal(form.formatted(bytes), formatted, `${rule}, formatted`);
    const textMax = Math.max(String(form.typed(bytes)).length, formatted.length);
    t.ok(textMax <= form.textMax || typed.startsWith(": "), `${rule}, in at most ${form.textMax} characters`);
  }
  t.end();
});

t.test("a bitfield as compilers wrote it before LLVM 7: an integer with an offset, at any bit", (t) => {
  const writer = new BtfWriter();
  const five = writer.int("unsigned int", 4, { bits: 5, offset: 3, encoding: 0 });
  const three = writer.int("int", 4, { bits: 3, offset: 0, encoding: INT_ENCODING.SIGNED });
  const byte = writer.int("unsigned char", 1, U8);
  const id = writer.struct("old", 5, [
    { name: "low", type: three, offsetBits: 0, bits: 0 },
    { name: "high", type: five, offsetBits: 0, bits: 0 },
    { name: "across", type: three, offsetBits: 14, bits: 0 },
    { name: "last", type: byte, offsetBits: 32, bits: 0 },
  ]);
  const form = formOf(parsed(writer.blob()), id);
  const bytes = Buffer.from("8fc0000009", "hex");
  t.equal(form.typed(bytes), '{"low":-1,"high":17,"across":3,"last":9}');
  t.equal(form.formatted(bytes), '{"low":"-0x1","high":"0x11","across":"0x3","last":9}');
  t.same(form.fromTyped(JSON.parse(form.typed(bytes) as string)), bytes);
  t.end();
});

t.test("a key has a typed form only if its padding is zero", (t) => {
  const form = described({ a: "u8", b: "u16" }, 4, { isKey: true });
  t.equal(form.typed(Buffer.from("01000200", "hex")), '{"a":1,"b":2}');
  t.equal(String(form.typed(Buffer.from("01ff0200", "hex"))), ": padding that is not zero");
  t.end();
});

t.test("a text of a path is a bare scalar or prefix, or JSON", (t) => {
  const rows: readonly (readonly [type: unknown, bytes: number, text: string, hex: string])[] = [
    ["u16", 2, "443", "bb01"],
    ["be16", 2, "443", "01bb"],
    ["u64", 8, "0xff", "ff00000000000000"],
    ["bool", 1, "true", "01"],
    ["double", 8, "1.5", "000000000000f83f"],
    ["float", 4, "-Infinity", "000080ff"],
    ["char[8]", 8, "eth0", "6574683000000000"],
    ["char[8]", 8, '"[a]"', "5b615d0000000000"],
    ["char[2]", 2, "[255,1]", ""],
    [state, 1, "OPEN", "01"],
    ["inet_ip", 4, "10.0.0.1", "0a000001"],
    ["cidr4", 8, "10.0.0.0/8", "080000000a000000"],
    ["cidr4", 8, "10.0.0.1", "200000000a000001"],
    ["cidr6", 20, "2001:db8::", `80000000${"20010db8".padEnd(32, "0")}`],
    [{ a: "u8", b: "u8" }, 2, '{"a":1,"b":2}', "0102"],
  ];
  for (const [type, bytes, text, hex] of rows) {
    const found = described(type, bytes).fromText(text);
    t.equal(Buffer.isBuffer(found) ? found.toString("hex") : "", hex, `${JSON.stringify(type)}: ${text}`);
  }
  t.equal(String(described({ a: "u8" }, 1).fromText("5")), ': JSON of an object required, found "5"');
  t.equal(
    String(described("char[8]", 8).fromText("{eth")),
    ': JSON, or a text that does not begin with {, [ or ", required, found "{eth"',
  );
  t.end();
});
