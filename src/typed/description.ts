/**
 * Makes BTF of types that are described in JSON (docs/typed.md), for maps that have none. Codecs become declaration tags
 * of typedefs. For example {"packets": "u64", "src": "inet_ip"} is
 *
 *   typedef unsigned char inet_ip[4] __attribute__((btf_decl_tag("inet_ip")));
 *   struct { unsigned long long packets; inet_ip src; };
 */

import { BtfWriter, type WrittenMember } from "../btf/writer.ts";
import { INT_ENCODING } from "../maps/btf_types.ts";
import { CODEC_NAMES, type Codec, type CodecName, fits, labelsOf, tagOfCodec } from "./codec.ts";
import { integerOf } from "./integers.ts";
import { type LayoutKind, layout, type Sized } from "./layout.ts";
import { listed, Misfit, shown } from "./misfit.ts";
import { CHAR_TYPEDEF, FLOATS, INTS, shortCodec, takesBytes } from "./type_names.ts";

const DEPTH_MAX = 64;
/** The most types of a description: BTF has room for 2^20. */
const TYPES_MAX = 2 ** 18;
/** BTF_MAX_VLEN. */
const MEMBERS_MAX = 0xffff;
const BYTES_MAX = 2 ** 28;
const BITS_MAX = 2 ** 24 - 1;
const NAME = /^[A-Za-z_.][A-Za-z0-9_.]{0,127}$/;
const SECTION_NAME = /^[ -~]{1,127}$/;
const TYPE = /^([A-Za-z_][A-Za-z0-9_]{0,31})((?:\[[0-9]{1,9}\]){0,16})$/;
const CODECS: ReadonlySet<string> = new Set(CODEC_NAMES);
const CIDR: ReadonlyMap<string, number> = new Map([
  ["cidr4", 4],
  ["cidr6", 16],
]);
const POINTER = "pointer";
const KERNEL_POINTERS: ReadonlySet<string> = new Set(["kptr", "kptr_untrusted", "percpu_kptr"]);
const ENCODINGS: ReadonlyMap<unknown, number> = new Map<unknown, number>([
  ["unsigned", 0],
  ["signed", INT_ENCODING.SIGNED],
  ["char", INT_ENCODING.CHAR],
  ["bool", INT_ENCODING.BOOL],
]);

type Json = Readonly<Record<string, unknown>>;

/** A type that was written. */
interface Made extends Sized {
  readonly id: number;
  readonly scalar: boolean;
  /** A struct of a u32 and one other member after it. */
  readonly prefix: boolean;
  /** Of an array. */
  readonly element: Made | null;
}

/** A member with its type, before it has an offset of its own. */
interface Placed {
  readonly name: string;
  readonly type: Made;
  /** From the description; null: as C lays it out. */
  readonly bit: number | null;
  readonly bits: number;
}

/** What the long forms have in common: a word that begins with @, and these. */
const LONG: Readonly<Record<string, readonly string[]>> = {
  "@struct": ["name", "bytes", "align"],
  "@packed": ["name", "bytes", "align"],
  "@union": ["name", "bytes", "align"],
  "@section": ["name", "bytes"],
  "@array": ["count"],
  "@enum": ["name", "bytes", "signed"],
  "@int": ["bits", "offset", "encoding"],
  "@float": [],
  "@pointer": [],
  "@codec": ["type", "values"],
};

export class Description {
  readonly #writer = new BtfWriter();
  readonly #known = new Map<string, Made>();
  #left = TYPES_MAX;

  /** Writes the type of a map's keys or values. `size`: their bytes. Answers its id. */
  add(json: unknown, size: number): number | Misfit {
    const made = typeof json === "string" ? this.#named(json, size) : this.#make(json, 0);
    return made instanceof Misfit ? made : made.id;
  }

  blob(): Buffer {
    return this.#writer.blob();
  }

  #make(json: unknown, depth: number): Made | Misfit {
    if (--this.#left < 0) return new Misfit(`a description of more than ${TYPES_MAX} types`);
    if (depth > DEPTH_MAX) return new Misfit(`types nested in more than ${DEPTH_MAX} others`);
    if (typeof json === "string") return this.#named(json, undefined);
    if (!isObject(json))
      return new Misfit(`the name of a type, or an object of members, required, found ${shown(json)}`);
    const long = Object.keys(json).find((key) => key.startsWith("@"));
    if (long === undefined) return this.#composite(json, { kind: "struct", depth, more: {} });
    const allowed = Object.hasOwn(LONG, long) ? LONG[long] : undefined;
    if (allowed === undefined) return new Misfit(`${Object.keys(LONG).join(", ")} allowed, found ${shown(long)}`);
    const stranger = Object.keys(json).find((key) => key !== long && !allowed.includes(key));
    if (stranger !== undefined)
      return new Misfit(`beside ${long} ${listed(allowed) || "nothing"} allowed, found ${shown(stranger)}`);
    return this.#long(long, json, depth);
  }

  #long(long: string, json: Json, depth: number): Made | Misfit {
    const of = json[long];
    switch (long) {
      case "@struct":
      case "@packed":
      case "@union":
        return this.#composite(of, { kind: long.slice(1) as LayoutKind, depth, more: json });
      case "@section":
        return this.#section(of, depth, json);
      case "@array": {
        const element = this.#make(of, depth + 1);
        if (element instanceof Misfit) return element.inside("[]");
        const count = whole(json.count, 2 ** 32 - 1);
        return count === null ? wrong("count", "a number of elements", json.count) : this.#array(element, count);
      }
      case "@enum":
        return this.#enum(of, json);
      case "@int":
        return this.#int(of, json);
      case "@float": {
        const bytes = whole(of, 16);
        if (bytes === null || ![2, 4, 8, 12, 16].includes(bytes)) return wrong("@float", "2, 4, 8, 12 or 16 bytes", of);
        return this.#float(bytes);
      }
      case "@pointer":
        return KERNEL_POINTERS.has(String(of))
          ? this.#kernelPointer(String(of))
          : wrong("@pointer", [...KERNEL_POINTERS].join(" or "), of);
      default:
        return this.#codec(of, json, depth);
    }
  }

  /** A scalar or codec by its name, and arrays of it. `size`: of the whole key or value; undefined: it is a part. */
  #named(text: string, size: number | undefined): Made | Misfit {
    const known = size === undefined ? this.#known.get(text) : undefined;
    if (known !== undefined) return known;
    const [, name, brackets] = TYPE.exec(text) ?? [];
    if (name === undefined || brackets === undefined)
      return new Misfit(`the name of a type required, found ${shown(text)}`);
    const counts = [...brackets.matchAll(/[0-9]+/g)].map(Number);
    const bytes = takesBytes(name) && counts.length > 0 ? counts.shift() : brackets === "" ? size : undefined;
    let made = this.#base(name, bytes);
    for (const count of counts.reverse()) {
      if (made instanceof Misfit) return made;
      made = this.#array(made, count);
    }
    if (!(made instanceof Misfit) && size === undefined) this.#known.set(text, made);
    return made;
  }

  #base(name: string, bytes: number | undefined): Made | Misfit {
    const int = INTS.get(name);
    if (int !== undefined) {
      const bits = { bits: 8 * int.bytes, offset: 0, encoding: int.encoding };
      return scalar(
        this.#once(name, () => this.#writer.int(int.name, int.bytes, bits)),
        int.bytes,
      );
    }
    const float = FLOATS.get(name);
    if (float !== undefined) return this.#float(float);
    if (name === POINTER)
      return plain(
        this.#once(name, () => this.#writer.pointer(0)),
        8,
      );
    if (name === CHAR_TYPEDEF) {
      const char = this.#base("char", undefined) as Made;
      return { ...char, id: this.#once(name, () => this.#writer.typedef(CHAR_TYPEDEF, char.id)) };
    }
    const data = CIDR.get(name);
    if (data !== undefined) {
      const struct = this.#make({ prefixlen: "u32", addr: `u8[${data}]` }, 0);
      return struct instanceof Misfit ? struct : this.#tagged({ name: "cidr" }, struct);
    }
    const short = shortCodec(name, bytes);
    if (short === "size") return new Misfit(`a number of bytes required, such as ${name}[16]`);
    if (short === null)
      return new Misfit(
        `no type ${shown(name)}; there are ${listed([...INTS.keys(), ...FLOATS.keys(), POINTER, ...CIDR.keys(), ...CODEC_NAMES])}`,
      );
    const inner = this.#named(short.type, undefined);
    return inner instanceof Misfit ? inner : this.#tagged({ name: short.codec }, inner);
  }

  #codec(of: unknown, json: Json, depth: number): Made | Misfit {
    if (typeof of !== "string" || !CODECS.has(of)) return wrong("@codec", listed(CODEC_NAMES), of);
    const inner = this.#make(json.type, depth + 1);
    if (inner instanceof Misfit) return inner;
    if (of !== "static_map")
      return json.values === undefined
        ? this.#tagged({ name: of as CodecName }, inner)
        : new Misfit("only a static_map has values");
    const labels = labelsOf(json.values);
    return typeof labels === "string" ? new Misfit(labels, ".values") : this.#tagged({ name: of, labels }, inner);
  }

  /** A codec that does not fit an array is for its elements (shape_maker.ts). */
  #tagged(codec: Codec, inner: Made): Made | Misfit {
    const { name } = codec;
    let part: Made | null = inner;
    while (part !== null && !fits(name, part.bytes, part)) part = part.element;
    if (part === null) return new Misfit(`${name} cannot show a type of ${inner.bytes} bytes like this`);
    const id = this.#writer.typedef(name, inner.id);
    this.#writer.declTag(tagOfCodec(codec), id);
    return { ...inner, id };
  }

  #array(element: Made, count: number): Made | Misfit {
    const bytes = element.bytes * count;
    if (bytes > BYTES_MAX) return new Misfit(`an array of ${bytes} bytes (limit ${BYTES_MAX})`);
    const index = this.#base("u32", undefined) as Made;
    return { ...plain(this.#writer.array(element.id, index.id, count), bytes, element.align), element };
  }

  #float(bytes: number): Made {
    const align = bytes === 12 ? 4 : bytes;
    const name = bytes === 4 ? "float" : bytes === 8 ? "double" : "long double";
    return plain(
      this.#once(`float ${bytes}`, () => this.#writer.float(name, bytes)),
      bytes,
      align,
    );
  }

  /** To a struct of which nothing is known. */
  #kernelPointer(kind: string): Made {
    const id = this.#once(kind, () => {
      const to = this.#once("object", () => this.#writer.struct("kernel_object", 0, []));
      return this.#writer.pointer(this.#writer.typeTag(kind, to));
    });
    return plain(id, 8);
  }

  #int(of: unknown, { bits: width, offset: first = 0, encoding: word = "unsigned" }: Json): Made | Misfit {
    const [bytes, offset] = [whole(of, 16), whole(first, 128)];
    const [bits, encoding] = [whole(width, 128), ENCODINGS.get(word)];
    if (bytes === null || ![1, 2, 4, 8, 16].includes(bytes)) return wrong("@int", "1, 2, 4, 8 or 16 bytes", of);
    if (bits === null || bits === 0 || offset === null || offset + bits > 8 * bytes)
      return wrong("bits", `1 to ${8 * bytes} bits`, width);
    if (encoding === undefined) return wrong("encoding", [...ENCODINGS.keys()].join(", "), word);
    return scalar(this.#writer.int(`int${bits}`, bytes, { bits, offset, encoding }), bytes);
  }

  #enum(of: unknown, { name: given, bytes: size = 4, signed = false }: Json): Made | Misfit {
    const bytes = whole(size, 8);
    const name = nameOf(given);
    if (bytes === null || ![1, 2, 4, 8].includes(bytes)) return wrong("bytes", "1, 2, 4 or 8", size);
    if (typeof signed !== "boolean") return wrong("signed", "true or false", signed);
    if (name instanceof Misfit) return name;
    if (!isObject(of)) return wrong("@enum", "an object of numbers by name", of);
    const values: [string, bigint][] = [];
    for (const [text, json] of Object.entries(of)) {
      const value = integerOf(json);
      if (!NAME.test(text)) return wrong("@enum", "a name", text);
      if (
        value === null ||
        (BigInt.asIntN(64, BigInt(value)) !== BigInt(value) && BigInt.asUintN(64, BigInt(value)) !== BigInt(value))
      )
        return wrong("@enum", `a number for ${text}`, json);
      values.push([text, BigInt(value)]);
    }
    if (values.length > MEMBERS_MAX) return new Misfit(`${values.length} enumerators (limit ${MEMBERS_MAX})`);
    return scalar(this.#writer.enum(name, bytes, { signed, values }), bytes);
  }

  #composite(of: unknown, { kind, depth, more }: { kind: LayoutKind; depth: number; more: Json }): Made | Misfit {
    const name = nameOf(more.name);
    if (name instanceof Misfit) return name;
    const members = this.#members(of, depth);
    if (members instanceof Misfit) return members;
    const natural = layout(
      members.map(({ type }) => type),
      kind,
    );
    const [bytes, align] = [whole(more.bytes ?? natural.bytes, BYTES_MAX), whole(more.align ?? natural.align, 16)];
    if (bytes === null) return wrong("bytes", "a number of bytes", more.bytes);
    if (align === null || align === 0) return wrong("align", "1 to 16 bytes", more.align);
    const written: WrittenMember[] = [];
    for (const [at, member] of members.entries()) {
      const offsetBits = member.bit ?? 8 * (natural.offsets[at] as number);
      const end = offsetBits + (member.bits === 0 ? 8 * member.type.bytes : member.bits);
      if (end > 8 * bytes || offsetBits > BITS_MAX) return new Misfit(`ends beyond ${bytes} bytes`, `.${member.name}`);
      written.push({ name: member.name, type: member.type.id, offsetBits, bits: member.bits });
    }
    const id = kind === "union" ? this.#writer.union(name, bytes, written) : this.#writer.struct(name, bytes, written);
    return { ...plain(id, bytes, align), prefix: kind !== "union" && isPrefix(members, written) };
  }

  /** Members as an object of types by name, or as a list of {"name", "type", "bit", "bits"}. */
  #members(of: unknown, depth: number): Placed[] | Misfit {
    const list = Array.isArray(of)
      ? of
      : isObject(of)
        ? Object.entries(of).map(([name, type]) => ({ name, type }))
        : null;
    if (list === null) return new Misfit(`an object or list of members required, found ${shown(of)}`);
    if (list.length > MEMBERS_MAX) return new Misfit(`${list.length} members (limit ${MEMBERS_MAX})`);
    const members: Placed[] = [];
    for (const one of list) {
      const member = this.#member(one, depth);
      if (member instanceof Misfit) return member;
      members.push(member);
    }
    return members;
  }

  #member(one: unknown, depth: number): Placed | Misfit {
    if (!isObject(one) || Object.keys(one).some((key) => !["name", "type", "bit", "bits"].includes(key)))
      return new Misfit(`{"name", "type", "bit", "bits"} required, found ${shown(one)}`);
    const name = nameOf(one.name === "" ? undefined : one.name);
    if (name instanceof Misfit) return name;
    const type = this.#make(one.type, depth + 1);
    if (type instanceof Misfit) return type.inside(`.${name}`);
    const bit = one.bit === undefined ? undefined : whole(one.bit, BITS_MAX);
    const bits = whole(one.bits ?? 0, 128);
    if (bit === null) return new Misfit(`a number of bits required, found ${shown(one.bit)}`, `.${name}.bit`);
    if (bits === null || (bits > 0 && (!type.scalar || bits > 8 * type.bytes || bit === undefined)))
      return new Misfit(
        `a width within an integer, and its "bit", required, found ${shown(one.bits)}`,
        `.${name}.bits`,
      );
    return { name, type, bit: bit ?? null, bits };
  }

  #section(of: unknown, depth: number, { name, bytes: size }: Json): Made | Misfit {
    const bytes = whole(size, BYTES_MAX);
    if (depth !== 0) return new Misfit("a data section in another type");
    if (bytes === null || bytes === 0) return wrong("bytes", "a number of bytes", size);
    if (typeof name !== "string" || !SECTION_NAME.test(name)) return wrong("name", "the name of a section", name);
    const members = this.#members(of, depth);
    if (members instanceof Misfit) return members;
    const misplaced = members.find(
      (member) => member.bit === null || member.bit % 8 !== 0 || member.bits !== 0 || member.name === "",
    );
    if (misplaced !== undefined) return new Misfit('a name and a "bit" at a whole byte required', `.${misplaced.name}`);
    const variables = members.map((member) => ({
      type: this.#writer.variable(member.name, member.type.id),
      offset: (member.bit as number) / 8,
      size: member.type.bytes,
    }));
    return plain(this.#writer.section(name, bytes, variables), bytes);
  }

  #once(name: string, write: () => number): number {
    const known = this.#known.get(`#${name}`)?.id ?? write();
    this.#known.set(`#${name}`, plain(known, 0));
    return known;
  }
}

function isObject(json: unknown): json is Json {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

function wrong(where: string, wanted: string, found: unknown): Misfit {
  return new Misfit(`${wanted} required, found ${shown(found)}`, `.${where}`);
}

/** A whole number up to a limit; null: it is none. */
function whole(json: unknown, most: number): number | null {
  return typeof json === "number" && Number.isInteger(json) && json >= 0 && json <= most ? json : null;
}

/** A name, or none, which is "". */
function nameOf(json: unknown): string | Misfit {
  if (json === undefined) return "";
  return typeof json === "string" && NAME.test(json) ? json : new Misfit(`a name of C required, found ${shown(json)}`);
}

function plain(id: number, bytes: number, align = Math.max(1, bytes)): Made {
  return { id, bytes, align, scalar: false, prefix: false, element: null };
}

function scalar(id: number, bytes: number): Made {
  return { ...plain(id, bytes), scalar: true };
}

function isPrefix(members: readonly Placed[], written: readonly WrittenMember[]): boolean {
  const [length, data] = members;
  const atFour = written[0]?.offsetBits === 0 && written[1]?.offsetBits === 32 && data?.bits === 0;
  return members.length === 2 && atFour && length?.bits === 0 && length.type.scalar && length.type.bytes === 4;
}
