import t from "tap";
import { described } from "./subjects.ts";

/** Wrong input names its place, and what belongs there. */
const stats = { "@struct": { packets: "u64", bytes: "u64" }, name: "stats" };
const flags = { "@struct": [{ name: "fin", type: "u8", bit: 0, bits: 3 }], bytes: 1 };
const view = { "@union": { raw: "u32", parts: "u16[2]" } };
const anonymous = {
  "@struct": [
    {
      type: {
        "@union": [
          { type: { a: "u16", b: "u16" }, bit: 0 },
          { name: "raw", type: "u32", bit: 0 },
        ],
      },
      bit: 0,
    },
  ],
};
const lock = { count: "u32", lock: { "@struct": { val: "u32" }, name: "bpf_spin_lock" } };

const ROWS: readonly (readonly [type: unknown, bytes: number, json: string, misfit: string])[] = [
  [flags, 1, '{"fin":8}', ".fin: 0 to 7, found 8"],
  [stats, 16, '{"packets":1,"lst":2}', ": struct stats has no member lst; it has packets, bytes"],
  [stats, 16, '{"packets":1}', ".bytes: required"],
  [stats, 16, '{"packets":1,"bytes":null}', ".bytes: 0 to 18446744073709551615, found null"],
  [stats, 16, '{"packets":1,"bytes":1.5}', ".bytes: 0 to 18446744073709551615, found 1.5"],
  [
    stats,
    16,
    '{"packets":1,"bytes":9007199254740993}',
    ".bytes: 0 to 18446744073709551615, found 9007199254740992; give it as a string, since JSON has rounded it",
  ],
  [
    stats,
    16,
    '{"packets":1,"bytes":"18446744073709551616"}',
    '.bytes: 0 to 18446744073709551615, found "18446744073709551616"',
  ],
  [
    stats,
    16,
    '{"packets":1,"bytes":1,"__proto__":{"x":1}}',
    ": struct stats has no member __proto__; it has packets, bytes",
  ],
  [stats, 16, "[1,2]", ": an object required, found a list"],
  [{ a: stats }, 16, '{"a":{"packets":-1,"bytes":0}}', ".a.packets: 0 to 18446744073709551615, found -1"],
  [{ list: "u8[3]" }, 3, '{"list":[1,2]}', ".list: a list of 3 required, found one of 2"],
  [{ list: "u8[3]" }, 3, '{"list":[1,2,256]}', ".list[2]: 0 to 255, found 256"],
  ["s8", 1, "-129", ": -128 to 127, found -129"],
  ["bool", 1, "2", ": true or false required, found 2"],
  ["float", 4, "1e300", ": a number that fits a float of 4 bytes required, found 1e+300"],
  ["double", 8, "1e999", ': a number, "NaN", "Infinity", "-Infinity" or "-0" required, found Infinity'],
  ["char[4]", 4, '"abcd"', ": at most 3 characters before the NUL, found 4"],
  ["char[4]", 4, '"ab\\u00e9"', ': printable ASCII required, found "abé"'],
  ["char[4]", 4, "[1,2,3,256]", "[3]: -128 to 127, found 256"],
  [{ "@enum": { A: 0, B: 1 }, name: "state", bytes: 4 }, 4, '"C"', ': no enumerator of state "C"; it has A, B'],
  [view, 4, "{}", ": one of raw, parts required"],
  [view, 4, '{"raw":1,"parts":[1,1]}', ": raw and parts disagree; one of them is enough"],
  [anonymous, 4, '{"a":1}', ".b: required"],
  [anonymous, 4, '{"a":1,"b":0,"raw":2}', ": a and raw disagree; one of them is enough"],
  [lock, 8, '{"count":1,"lock":{"val":1}}', ".lock: zeros required, since only programs write a bpf_spin_lock"],
  ["inet_ip", 4, '"10.0.0.256"', ': an address such as "10.0.0.1" required, found "10.0.0.256"'],
  ["cidr4", 8, '"10.0.0.0/33"', ': a prefix of 0 to 32 bits required, found "10.0.0.0/33"'],
  ["cidr4", 8, '"10.0.0.1"', ': a prefix such as "10.0.0.0/8" required, found "10.0.0.1"'],
];

t.test("wrong input names its place", (t) => {
  for (const [type, bytes, json, misfit] of ROWS)
    t.equal(String(described(type, bytes).fromTyped(JSON.parse(json))), misfit, json);
  t.end();
});

t.test("input that is taken", (t) => {
  const rows: readonly (readonly [type: unknown, json: string, hex: string])[] = [
    [stats, '{"bytes":"0x10","packets":5}', "05000000000000001000000000000000"],
    [view, '{"raw":65538,"parts":[2,1]}', "02000100"],
    [view, '{"parts":[2,1]}', "02000100"],
    [anonymous, '{"raw":1}', "01000000"],
    [anonymous, '{"a":1,"b":2,"raw":131073}', "01000200"],
    [lock, '{"count":1}', "0100000000000000"],
    [lock, '{"count":1,"lock":{"val":0}}', "0100000000000000"],
    ["be32", '"10.0.0.1"', "0a000001"],
    ["be32", "167772161", "0a000001"],
    ["inet_ip", "167772161", "0a000001"],
    [{ a: "u8", b: "u16" }, '{"a":1,"b":2}', "01000200"],
    ["bool", "1", "01"],
    [{ "@struct": { ["__proto__" as string]: "u8" } }, '{"__proto__":7}', "07"],
  ];
  for (const [type, json, hex] of rows) {
    const found = described(type, hex.length / 2).fromTyped(JSON.parse(json));
    t.equal(Buffer.isBuffer(found) ? found.toString("hex") : String(found), hex, `${JSON.stringify(type)}: ${json}`);
  }
  t.end();
});
