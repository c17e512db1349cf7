/** Describes shapes in the JSON that description.ts takes: types that are made of it have the same forms. */

import type { Codec } from "./codec.ts";
import { type LayoutKind, layout, type Sized } from "./layout.ts";
import { Misfit } from "./misfit.ts";
import type { ArrayShape, EnumShape, IntShape, Member, SectionShape, Shape, StructShape } from "./shape.ts";
import { CHAR_TYPEDEF, INTS, shortName, takesBytes } from "./type_names.ts";

/** The most types that a description may have: a shape that is part of many others is described in each place. */
const TYPES_MAX = 2 ** 18;
const MAX_ALIGN = 16;

interface Described extends Sized {
  readonly json: unknown;
}

/** A description of the type of a map's keys or values. */
export function describe(shape: Shape): unknown | Misfit {
  const describer = new Describer();
  const { json } = describer.of(shape);
  return describer.left < 0 ? new Misfit(`a description of more than ${TYPES_MAX} types`) : json;
}

class Describer {
  left = TYPES_MAX;

  of(shape: Shape): Described {
    if (--this.left < 0) return { json: null, bytes: shape.bytes, align: 1 };
    switch (shape.kind) {
      case "int":
        return scalar(int(shape), shape.bytes);
      case "enum":
        return scalar(enumeration(shape), shape.bytes);
      case "float":
        return this.#float(shape.bytes);
      case "pointer":
        return scalar(shape.kernel ? { "@pointer": "kptr" } : "pointer", 8);
      case "array":
        return this.#array(shape);
      case "section":
        return { json: this.#section(shape), bytes: shape.bytes, align: 1 };
      case "coded": {
        const inner = this.of(shape.inner);
        return { ...inner, json: coded(shape.codec, inner.json) };
      }
      default:
        return this.#composite(shape);
    }
  }

  #float(bytes: number): Described {
    const json = bytes === 4 ? "float" : bytes === 8 ? "double" : { "@float": bytes };
    return { json, bytes, align: bytes === 12 ? 4 : bytes };
  }

  #array({ element, count, chars, plainChars, bytes }: ArrayShape): Described {
    const { json: of, align } = this.of(element);
    const isNamed = chars && element.kind === "int" && !element.isChar;
    const json = isNamed ? (plainChars ? "char" : CHAR_TYPEDEF) : of;
    const [, name = "", brackets = ""] = typeof json === "string" ? (/^(\w+)(.*)$/.exec(json) ?? []) : [];
    const isShort = name !== "" && !takesBytes(name);
    return { json: isShort ? `${name}[${count}]${brackets}` : { "@array": json, count }, bytes, align };
  }

  #section({ name, bytes, members }: SectionShape): unknown {
    const list = members.map((member) => ({ name: member.name, type: this.of(member.shape).json, bit: 8 * member.at }));
    return { "@section": list, name, bytes };
  }

  /** Members by name where C lays them out like this, else as a list with their places. */
  #composite({ kind, name, members, bytes }: StructShape): Described {
    const types = members.map(({ shape }) => this.of(shape));
    const kinds: readonly LayoutKind[] = kind === "union" ? ["union"] : ["struct", "packed"];
    const isPlain = members.every(
      ({ name: member, bits, shift }) => member !== "" && member !== "__proto__" && bits === 0 && shift === 0,
    );
    const fitting = isPlain ? kinds.find((one) => isLaidOut(members, types, { kind: one, bytes })) : undefined;
    const called = name === "" ? {} : { name };
    if (fitting !== undefined) {
      const natural = layout(types, fitting);
      const json = Object.fromEntries(members.map((member, at) => [member.name, types[at]?.json]));
      const size = natural.bytes === bytes ? {} : { bytes };
      const isShort = fitting === "struct" && name === "" && natural.bytes === bytes;
      return { json: isShort ? json : { [`@${fitting}`]: json, ...called, ...size }, bytes, align: natural.align };
    }
    const { align: most } = layout(types, kinds[0] as LayoutKind);
    const align = bytes % most === 0 ? Math.min(most, MAX_ALIGN) : 1;
    const list = members.map((member, at) => ({ ...place(member), type: types[at]?.json }));
    return { json: { [`@${kind}`]: list, ...called, bytes, align }, bytes, align };
  }
}

function place({ name, at, shift, bits }: Member): Readonly<Record<string, unknown>> {
  return { ...(name === "" ? {} : { name }), bit: 8 * at + shift, ...(bits === 0 ? {} : { bits }) };
}

/** Whether C lays members out where they are; a struct may be larger than its members need. */
function isLaidOut(
  members: readonly Member[],
  types: readonly Sized[],
  { kind, bytes }: { kind: LayoutKind; bytes: number },
): boolean {
  const { offsets, bytes: least, align } = layout(types, kind);
  return least <= bytes && bytes % align === 0 && members.every((member, at) => member.at === offsets[at]);
}

function scalar(json: unknown, bytes: number): Described {
  return { json, bytes, align: bytes };
}

function int({ bytes, bits, offset, signed, isChar, isBool }: IntShape): unknown {
  const isWhole = offset === 0 && bits === 8 * bytes;
  if (isWhole && isBool && bytes === 1) return "bool";
  const name = isWhole && !isChar && !isBool ? `${signed ? "s" : "u"}${bits}` : "";
  if (INTS.has(name)) return name;
  const encoding = isBool ? "bool" : isChar ? "char" : signed ? "signed" : "unsigned";
  return { "@int": bytes, bits, ...(offset === 0 ? {} : { offset }), encoding };
}

function enumeration({ name, bytes, signed, values }: EnumShape): unknown {
  const numbers = new Map<string, unknown>();
  for (const { name: text, value } of values) {
    const isExact = value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER;
    if (!numbers.has(text)) numbers.set(text, isExact ? Number(value) : String(value));
  }
  return {
    "@enum": Object.fromEntries(numbers),
    ...(name === "" ? {} : { name }),
    bytes,
    ...(signed ? { signed } : {}),
  };
}

/** An address by a member's name is one by a codec, because the description has no typedef __be32. */
function coded({ name, address, labels }: Codec, type: unknown): unknown {
  const codec = address === true ? "inet_ip" : name;
  const short = codec === "cidr" ? shortPrefix(type) : shortName(codec, type);
  if (short !== null) return short;
  if (labels === undefined) return { "@codec": codec, type };
  return {
    "@codec": codec,
    type,
    values: Object.fromEntries([...labels].map(([number, text]) => [String(number), text])),
  };
}

function shortPrefix(type: unknown): string | null {
  const text = JSON.stringify(type);
  if (text === '{"prefixlen":"u32","addr":"u8[4]"}') return "cidr4";
  return text === '{"prefixlen":"u32","addr":"u8[16]"}' ? "cidr6" : null;
}
