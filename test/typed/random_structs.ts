/**
 * Random structs in C, with random values in the typed form and the lines that a C program prints of them. The
 * generator knows C and JSON, and nothing of BTF or of the code that is tested.
 */

type Random = (below: number) => number;

/** A value in the typed form, and what C prints of it, by the expression that reads it. */
interface Sample {
  readonly json: unknown;
  readonly lines: readonly string[];
}

/** Whether bpftool prints the value as it is: false for what docs/typed.md lists as its faults. */
interface Facts {
  readonly faulty: boolean;
}

interface Field extends Facts {
  readonly name: string;
  /** Declarations that come before the struct. */
  readonly before: string;
  readonly declaration: string;
  /** C that prints it; `v` is the path of the struct around it. */
  readonly print: (v: string) => string;
  /** null: an anonymous member, whose sample's JSON stands in the parent. */
  readonly sample: (random: Random, mild: boolean) => Sample;
  readonly anonymous: boolean;
}

export interface Generated {
  readonly name: string;
  readonly c: string;
  readonly print: string;
  readonly kinds: readonly string[];
  /** bpftool prints none of its values right. */
  readonly faulty: boolean;
  /** A value. `mild`: one that bpftool prints right. */
  readonly sample: (random: Random, mild: boolean) => Sample;
}

const PRELUDE = `
typedef unsigned char __u8; typedef unsigned short __u16; typedef unsigned int __u32; typedef unsigned long long __u64;
typedef signed char __s8; typedef short __s16; typedef int __s32; typedef long long __s64;
typedef unsigned __int128 __u128; typedef __int128 __s128;
typedef __u16 __be16; typedef __u32 __be32; typedef __u64 __be64;
typedef __u32 chain1; typedef const chain1 chain2; typedef volatile chain2 chain3;
struct in_addr { __be32 s_addr; };
struct in6_addr { union { __u8 u6_addr8[16]; __be16 u6_addr16[8]; __be32 u6_addr32[4]; } in6_u; };
enum plain { PLAIN_A, PLAIN_B, PLAIN_C = 77 };
enum below { BELOW_A = -5, BELOW_B = 3 };
enum tiny { TINY_A = 1, TINY_B = 9 } __attribute__((packed));
enum large { LARGE_A = 1, LARGE_B = 0x123456789abULL };
`;

const UNSIGNED = { __u8: 8, __u16: 16, __u32: 32, __u64: 64 } as const;
const SIGNED = { __s8: 8, __s16: 16, __s32: 32, __s64: 64 } as const;

function bits(random: Random, width: number): bigint {
  let value = 0n;
  for (let left = width; left > 0; left -= 16) value = (value << 16n) | BigInt(random(65_536));
  const kept = BigInt.asUintN(width, value);
  return random(4) === 0 ? kept & 0xfn : kept;
}

function typedNumber(value: bigint, width: number): unknown {
  return width > 53 ? String(value) : Number(value);
}

function unsignedPrint(expression: string): string {
  return `printf("%llu\\n", (unsigned long long)(${expression}));`;
}

function signedPrint(expression: string): string {
  return `printf("%lld\\n", (long long)(${expression}));`;
}

type Scalar = {
  readonly type: string;
  readonly print: (expression: string) => string;
  readonly sample: (random: Random, mild: boolean) => { readonly json: unknown; readonly line: string };
  readonly faulty?: boolean;
};

function unsigned(type: keyof typeof UNSIGNED): Scalar {
  return {
    type,
    print: unsignedPrint,
    sample: (random) => {
      const value = bits(random, UNSIGNED[type]);
      return { json: typedNumber(value, UNSIGNED[type]), line: String(value) };
    },
  };
}

function signed(type: keyof typeof SIGNED): Scalar {
  return {
    type,
    print: signedPrint,
    sample: (random) => {
      const value = BigInt.asIntN(SIGNED[type], bits(random, SIGNED[type]));
      return { json: typedNumber(value, SIGNED[type]), line: String(value) };
    },
  };
}

const wide = (type: "__u128" | "__s128"): Scalar => ({
  type,
  print: (e) => `printf("%llx:%llx\\n", (unsigned long long)((__u128)(${e}) >> 64), (unsigned long long)(${e}));`,
  sample: (random) => {
    const raw = bits(random, 128);
    const value = type === "__s128" ? BigInt.asIntN(128, raw) : raw;
    return { json: String(value), line: `${(raw >> 64n).toString(16)}:${BigInt.asUintN(64, raw).toString(16)}` };
  },
});

const floating = (type: "float" | "double"): Scalar => ({
  type,
  faulty: true,
  print: (e) =>
    `{ ${type} f = ${e}; ${type === "float" ? "__u32" : "__u64"} u; memcpy(&u, &f, sizeof u); printf("%llx\\n", (unsigned long long)u); }`,
  sample: (random) => {
    const special = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0, 0.1, 1e30][random(8)];
    const value = special ?? (random(2_000_000) - 1_000_000) / (1 + random(1000));
    const bytes = Buffer.alloc(8);
    if (type === "float") bytes.writeFloatLE(value);
    else bytes.writeDoubleLE(value);
    const line = type === "float" ? bytes.readUInt32LE().toString(16) : bytes.readBigUInt64LE().toString(16);
    const json = Number.isNaN(value)
      ? "NaN"
      : Object.is(value, -0)
        ? "-0"
        : Number.isFinite(value)
          ? value
          : String(value);
    return { json, line };
  },
});

const enumeration = (type: string, values: Readonly<Record<string, number>>, print = signedPrint): Scalar => ({
  type,
  print,
  sample: (random) => {
    const names = Object.keys(values);
    const name = names[random(names.length + 1)];
    if (name === undefined) return { json: 5, line: "5" };
    return { json: name, line: String(values[name]) };
  },
});

const SCALARS: Readonly<Record<string, Scalar>> = {
  u8: unsigned("__u8"),
  u16: unsigned("__u16"),
  u32: unsigned("__u32"),
  u64: unsigned("__u64"),
  s8: signed("__s8"),
  s16: signed("__s16"),
  s32: signed("__s32"),
  s64: signed("__s64"),
  u128: wide("__u128"),
  s128: wide("__s128"),
  chain: { ...unsigned("__u32"), type: "chain3" },
  bool: {
    type: "_Bool",
    print: signedPrint,
    sample: (random) => {
      const value = random(2) === 1;
      return { json: value, line: value ? "1" : "0" };
    },
  },
  float: floating("float"),
  double: floating("double"),
  enum: enumeration("enum plain", { PLAIN_A: 0, PLAIN_B: 1, PLAIN_C: 77 }),
  "signed enum": enumeration("enum below", { BELOW_A: -5, BELOW_B: 3 }),
  "enum of a byte": enumeration("enum tiny", { TINY_A: 1, TINY_B: 9 }),
  // Compilers before LLVM 15 have no BTF_KIND_ENUM64 and cut its values, so numbers are given.
  enum64: {
    type: "enum large",
    print: unsignedPrint,
    sample: (random) => {
      const value = 2n ** 33n + bits(random, 40);
      return { json: String(value), line: String(value) };
    },
  },
  pointer: {
    type: "void *",
    print: (e) => unsignedPrint(`(unsigned long)(${e})`),
    sample: (random) => {
      const value = bits(random, 64);
      return { json: `0x${value.toString(16)}`, line: String(value) };
    },
  },
  be16: {
    type: "__be16",
    print: (e) => unsignedPrint(`__builtin_bswap16(${e})`),
    sample: (random) => {
      const value = random(65_536);
      return { json: value, line: String(value) };
    },
  },
  be64: {
    type: "__be64",
    print: (e) => unsignedPrint(`__builtin_bswap64(${e})`),
    sample: (random) => {
      const value = bits(random, 64);
      return { json: String(value), line: String(value) };
    },
  },
};

interface Named {
  readonly name: string;
  readonly random: Random;
}

function field(named: Named, parts: Omit<Field, "name" | "before" | "anonymous" | "faulty"> & Partial<Field>): Field {
  return { name: named.name, before: "", anonymous: false, faulty: false, ...parts };
}

function scalar(kind: string, named: Named): Field {
  const { type, print, sample, faulty = false } = SCALARS[kind] as Scalar;
  return field(named, {
    declaration: `${type} ${named.name};`,
    print: (v) => print(`${v}.${named.name}`),
    sample: (random, mild) => {
      const { json, line } = sample(random, mild);
      return { json, lines: [line] };
    },
    faulty,
  });
}

function bitfield(type: string, named: Named, { width, isSigned }: { width: number; isSigned: boolean }): Field {
  return field(named, {
    declaration: `${type} ${named.name}:${width};`,
    print: (v) => (isSigned ? signedPrint : unsignedPrint)(`${v}.${named.name}`),
    sample: (random, mild) => {
      const raw = bits(random, mild && isSigned ? width - 1 : width);
      const value = isSigned ? BigInt.asIntN(width, raw) : raw;
      return { json: typedNumber(value, width), lines: [String(value)] };
    },
  });
}

function array(element: string, named: Named, counts: readonly number[]): Field {
  const { type, print, sample, faulty = false } = SCALARS[element] as Scalar;
  const indexes = counts.reduce<string[]>(
    (all, count) => all.flatMap((one) => Array.from({ length: count }, (_, at) => `${one}[${at}]`)),
    [""],
  );
  return field(named, {
    declaration: `${type} ${named.name}${counts.map((count) => `[${count}]`).join("")};`,
    print: (v) => indexes.map((index) => print(`${v}.${named.name}${index}`)).join("\n"),
    sample: (random, mild) => {
      const lines: string[] = [];
      const build = (left: readonly number[]): unknown => {
        const [count, ...rest] = left;
        if (count === undefined) {
          const one = sample(random, mild);
          lines.push(one.line);
          return one.json;
        }
        return Array.from({ length: count }, () => build(rest));
      };
      return { json: build(counts), lines };
    },
    faulty,
  });
}

const MILD = " !\"#$%&'()*+,-./0123456789:;<=>?@ABCXYZ[]^_`abcxyz{|}~";

function chars(named: Named): Field {
  const size = 2 + named.random(20);
  return field(named, {
    declaration: `char ${named.name}[${size}];`,
    print: (v) => `printf("%s\\n", ${v}.${named.name});`,
    sample: (random, mild) => {
      const from = mild ? MILD : `${MILD}'"\\\\`;
      const text = Array.from({ length: random(size) }, () => from[random(from.length)]).join("");
      return { json: text, lines: [text] };
    },
  });
}

function address(kind: "in_addr" | "in6_addr" | "be32", named: Named): Field {
  const name = kind === "be32" ? `${named.name}_saddr` : named.name;
  const bytes = kind === "in6_addr" ? 16 : 4;
  const type = kind === "be32" ? "__be32" : `struct ${kind}`;
  return {
    ...field(named, {
      declaration: `${type} ${name};`,
      print: (v) =>
        `for (int i = 0; i < ${bytes}; i++) printf("%02x", ((unsigned char *)&${v}.${name})[i]); printf("\\n");`,
      sample: (random) => {
        const all = Buffer.from(Array.from({ length: bytes }, () => (random(3) === 0 ? 0 : random(256))));
        const groups = Array.from({ length: bytes / 2 }, (_, at) => all.readUInt16BE(2 * at).toString(16));
        return { json: bytes === 4 ? [...all].join(".") : groups.join(":"), lines: [all.toString("hex")] };
      },
    }),
    name,
  };
}

function objectOf(fields: readonly Field[], random: Random, mild: boolean): Sample {
  const json: Record<string, unknown> = {};
  const lines: string[] = [];
  for (const { name, anonymous, sample } of fields) {
    const one = sample(random, mild);
    if (anonymous) Object.assign(json, one.json);
    else json[name] = one.json;
    lines.push(...one.lines);
  }
  return { json, lines };
}

/** A struct in a struct, named or not. */
function nested(kinds: readonly string[], named: Named, anonymous: boolean): Field {
  const fields = kinds.map((kind, at) => fieldOf(kind, { ...named, name: `${named.name}_${at}` }));
  const path = anonymous ? "" : `.${named.name}`;
  return field(named, {
    before: fields.map(({ before }) => before).join(""),
    declaration: `struct { ${fields.map(({ declaration }) => declaration).join(" ")} }${anonymous ? "" : ` ${named.name}`};`,
    print: (v) => fields.map(({ print }) => print(v + path)).join("\n"),
    sample: (random, mild) => objectOf(fields, random, mild),
    anonymous,
    faulty: fields.some(({ faulty }) => faulty),
  });
}

/** A union, of which the first member is given and printed. */
function union(kinds: readonly string[], named: Named, anonymous: boolean): Field {
  const fields = kinds.map((kind, at) => fieldOf(kind, { ...named, name: `${named.name}_${at}` }));
  const [first] = fields as [Field];
  const path = anonymous ? "" : `.${named.name}`;
  return field(named, {
    before: fields.map(({ before }) => before).join(""),
    declaration: `union { ${fields.map(({ declaration }) => declaration).join(" ")} }${anonymous ? "" : ` ${named.name}`};`,
    print: (v) => first.print(v + path),
    sample: (random, mild) => objectOf([first], random, mild),
    anonymous,
    faulty: fields.some(({ faulty }) => faulty),
  });
}

const PARTS = ["u8", "u16", "u32", "s64", "enum", "chars", "be16", "unsigned bitfield", "array"];

function parts(named: Named, count: number): string[] {
  return Array.from({ length: count }, () => PARTS[named.random(PARTS.length)] as string);
}

/** The width of each kind of bitfield comes from here, so that all occur. */
const WIDTHS: Readonly<Record<string, number>> = {
  __u8: 8,
  __u16: 16,
  __u32: 32,
  __u64: 64,
  __s8: 8,
  __s16: 16,
  __s32: 32,
  __s64: 64,
};

function randomBitfield(named: Named, types: readonly string[], isSigned: boolean): Field {
  const type = types[named.random(types.length)] as string;
  const width = (isSigned ? 2 : 1) + named.random((WIDTHS[type] as number) - (isSigned ? 1 : 0));
  return bitfield(type, named, { width, isSigned });
}

function fieldOf(kind: string, named: Named): Field {
  switch (kind) {
    case "chars":
      return chars(named);
    case "unsigned bitfield":
      return randomBitfield(named, Object.keys(UNSIGNED), false);
    case "signed bitfield":
      return randomBitfield(named, Object.keys(SIGNED), true);
    case "60-bit bitfield":
      return bitfield("__u64", named, { width: 54 + named.random(10), isSigned: false });
    case "bool bitfield":
      return {
        ...field(named, {
          declaration: `_Bool ${named.name}:1;`,
          print: (v) => signedPrint(`${v}.${named.name}`),
          sample: (random) => {
            const value = random(2);
            return { json: value === 1, lines: [String(value)] };
          },
        }),
      };
    case "enum bitfield":
      return field(named, {
        declaration: `enum plain ${named.name}:7;`,
        print: (v) => signedPrint(`${v}.${named.name}`),
        sample: (random) => {
          const value = random(2) === 0 ? { json: "PLAIN_B", line: "1" } : { json: 33, line: "33" };
          return { json: value.json, lines: [value.line] };
        },
      });
    case "array":
      return array(["u8", "u32", "s16", "u64"][named.random(4)] as string, named, [1 + named.random(5)]);
    case "nested array":
      return array(["u8", "s32", "enum", "bool", "be16"][named.random(5)] as string, named, [
        1 + named.random(3),
        1 + named.random(3),
        2,
      ]);
    case "in_addr":
    case "in6_addr":
    case "be32":
      return address(kind, named);
    case "struct":
      return nested(parts(named, 3), named, false);
    case "anonymous struct":
      return nested(parts(named, 2), named, true);
    case "union":
      return union(parts(named, 2), named, false);
    case "anonymous union":
      return union(parts(named, 3), named, true);
    case "anonymous union of structs":
      return union(["anonymous struct", "u64"], named, true);
    default:
      return scalar(kind, named);
  }
}

export const KINDS = [
  ...Object.keys(SCALARS),
  "chars",
  "unsigned bitfield",
  "signed bitfield",
  "60-bit bitfield",
  "bool bitfield",
  "enum bitfield",
  "array",
  "nested array",
  "in_addr",
  "in6_addr",
  "be32",
  "struct",
  "anonymous struct",
  "union",
  "anonymous union",
  "anonymous union of structs",
] as const;

/** A struct with members of all these kinds. */
function struct(
  name: string,
  kinds: readonly string[],
  { random, packed }: { random: Random; packed: boolean },
): Generated {
  const fields = kinds.map((kind, at) => fieldOf(kind, { name: `m${at}`, random }));
  const body = fields.map(({ declaration }) => `  ${declaration}`).join("\n");
  return {
    name,
    kinds: packed ? [...kinds, "packed"] : kinds,
    c: `${fields.map(({ before }) => before).join("")}struct ${name} {\n${body}\n}${packed ? " __attribute__((packed))" : ""};\n`,
    print: fields.map(({ print }) => print("(*v)")).join("\n"),
    // bpftool gives all anonymous members the same name.
    faulty: fields.some(({ faulty }) => faulty) || fields.filter(({ anonymous }) => anonymous).length > 1,
    sample: (values, mild) => objectOf(fields, values, mild),
  };
}

/** Structs of 1 to 8 members; all kinds occur about equally often. */
export function randomStructs(prefix: string, count: number, random: Random): Generated[] {
  let next = random(KINDS.length);
  return Array.from({ length: count }, (_, at) => {
    const kinds = Array.from({ length: 1 + random(8) }, () => KINDS[next++ % KINDS.length] as string);
    return struct(`${prefix}${at}`, kinds, { random, packed: random(4) === 0 });
  });
}

function header(structs: readonly Generated[]): string {
  return PRELUDE + structs.map(({ c }) => c).join("");
}

/** A translation unit for the BPF target: BTF has the types of functions' parameters. */
export function bpfSource(structs: readonly Generated[]): string {
  return `${header(structs)}${structs.map(({ name }) => `int use_${name}(struct ${name} *v) { return 0; }\n`).join("")}`;
}

/** A program that reads a value of each struct from standard input, one after the other, and prints the members. */
export function printerSource(structs: readonly Generated[]): string {
  const prints = structs.map(
    ({ name, print }) =>
      `static void print_${name}(void) { struct ${name} s, *v = &s; if (fread(&s, sizeof s, 1, stdin) != 1) return;\n${print}\n}\n`,
  );
  const calls = structs
    .map(({ name }) => `printf("${name} %lu\\n", sizeof(struct ${name})); print_${name}();`)
    .join("\n");
  return `#include <stdio.h>\n#include <string.h>\n${header(structs)}${prints.join("")}int main(void) {\n${calls}\nreturn 0;\n}\n`;
}
