/**
 * Makes shapes of BTF types. BTF of an older log may not be sound (btf/btf.ts), so everything is checked that readers
 * and writers rely on: sizes, bounds, overlaps, depth, and the amount of text.
 */

import type { Btf } from "../btf/btf.ts";
import { FIELDS, type FieldKind, kernelPointer } from "../btf/fields.ts";
import { BTF_KIND, INT_ENCODING, MODIFIERS } from "../maps/btf_types.ts";
import { isRefusal } from "../maps/refusal.ts";
import { type Codec, type CodecName, fits } from "./codec.ts";
import { DeclTags } from "./decl_tags.ts";
import { Misfit } from "./misfit.ts";
import type { ArrayShape, EnumShape, IntShape, Member, Shape, StructShape } from "./shape.ts";

/** The most levels of structs and arrays, and the most typedefs and modifiers in a row. */
const HEIGHT_MAX = 64;
const CHAIN_MAX = 64;
/** Of a value: the most scalars, each view of a union counted; 65,536 bytes in nested arrays have a form, 2^32 have not. */
const LEAVES_MAX = 2 ** 18;
const VIEW_BYTES = 16;
/** The largest value that has a form. */
const BYTES_MAX = 2 ** 24;
/** The most characters of a value: so many, or so many for each byte; and never more than TEXT_MAX. */
const TEXT_FREE = 2 ** 16;
const TEXT_PER_BYTE = 256;
const TEXT_MAX = 2 ** 24;
/** Of all types that a shape is made of: the characters of all names, and the members. */
const NAMES_MAX = 2 ** 22;
/** The most characters of a number in either form: a quoted s128 or double. */
const NUMBER_TEXT = 42;
/** The most characters of a name that the caller provides (names.ts), and of the number beside it. */
const NAME_TEXT = 4096;

const BIG_ENDIAN: Readonly<Record<string, CodecName>> = { __be16: "be16", __be32: "be32", __be64: "be64" };
const ADDRESS_BYTES: Readonly<Record<string, number>> = { in_addr: 4, in6_addr: 16 };
const SCALARS: ReadonlySet<Shape["kind"]> = new Set(["int", "enum"]);

/** What a type is the type of. `address`: a member whose name ends in addr or ip. */
interface Use {
  readonly codec: Codec | null;
  readonly address: boolean;
  readonly depth: number;
}

const PREFIX: Use = { codec: { name: "cidr" }, address: false, depth: 0 };

export class ShapeMaker {
  readonly #btf: Btf;
  readonly #tags: DeclTags;
  readonly #made = new Map<string, Shape | Misfit>();
  readonly #labelled = new Map<Codec, number>();
  #namesLeft = NAMES_MAX;

  constructor(btf: Btf) {
    this.#btf = btf;
    this.#tags = new DeclTags(btf);
  }

  /** The shape of the keys or values of a map; a prefix is the key of a trie. */
  make(id: number, isPrefix = false): Shape | Misfit {
    const own = this.#make(id, { codec: null, address: false, depth: 0 });
    const shape = isPrefix && !(own instanceof Misfit) && own.kind !== "coded" ? this.#make(id, PREFIX) : own;
    if (shape instanceof Misfit) return shape;
    if (shape.bytes > BYTES_MAX) return new Misfit(`a type of ${shape.bytes} bytes (limit ${BYTES_MAX})`);
    if (shape.leaves > LEAVES_MAX) return new Misfit(`${shape.leaves} scalars in a value (limit ${LEAVES_MAX})`);
    const textMax = Math.min(TEXT_MAX, TEXT_FREE + TEXT_PER_BYTE * shape.bytes);
    if (shape.textMax > textMax)
      return new Misfit(`a value of ${shape.bytes} bytes may need ${shape.textMax} characters (limit ${textMax})`);
    return shape;
  }

  #make(of: number, use: Use): Shape | Misfit {
    let [id, codec] = [of, use.codec];
    for (let steps = 0; MODIFIERS.has(this.#btf.kind(id) ?? 0); steps++) {
      if (steps === CHAIN_MAX) return new Misfit(`a type of more than ${CHAIN_MAX} typedefs and modifiers in a row`);
      if (this.#btf.kind(id) === BTF_KIND.TYPEDEF) codec ??= this.#tags.ofType(id) ?? this.#bigEndian(id, use.address);
      id = this.#btf.target(id);
    }
    const known = `${id} ${use.address} ${codec === null ? "" : this.#keyOf(codec)}`;
    const made = this.#made.get(known);
    if (made !== undefined) return made;
    if (use.depth > HEIGHT_MAX) return TOO_DEEP;
    const coded = this.#coded(id, { ...use, codec });
    const shape = coded instanceof Misfit || coded.height <= HEIGHT_MAX ? coded : TOO_DEEP;
    this.#made.set(known, shape);
    return shape;
  }

  /** What a codec is known by; a static_map by itself, since its texts may be many. */
  #keyOf(codec: Codec): string {
    if (codec.labels === undefined) return codec.address === true ? `${codec.name} address` : codec.name;
    const number = this.#labelled.get(codec) ?? this.#labelled.size;
    this.#labelled.set(codec, number);
    return `${codec.name} ${number}`;
  }

  /** __be16, __be32 and __be64 of <linux/types.h> say the byte order of an integer. */
  #bigEndian(typedef: number, address: boolean): Codec | null {
    const name = BIG_ENDIAN[this.#btf.name(typedef)];
    if (name === undefined) return null;
    return name === "be32" && address ? { name, address: true } : { name };
  }

  /** A codec that does not fit an array is for its elements; one that fits nothing is ignored: the tag meant something else. */
  #coded(id: number, use: Use): Shape | Misfit {
    const inner = this.#plain(id, { ...use, codec: null });
    if (inner instanceof Misfit) return inner;
    const codec = use.codec ?? this.#address(inner);
    if (codec === null) return inner;
    if (fits(codec.name, inner.bytes, { scalar: SCALARS.has(inner.kind), prefix: isPrefix(inner) }))
      return { ...inner, kind: "coded", codec, inner, textMax: Math.max(inner.textMax, codecText(codec, inner.bytes)) };
    return inner.kind === "array" ? this.#plain(id, { ...use, codec }) : inner;
  }

  #address(inner: Shape): Codec | null {
    return inner.kind === "struct" && ADDRESS_BYTES[inner.name] === inner.bytes ? { name: "inet_ip" } : null;
  }

  #plain(id: number, use: Use): Shape | Misfit {
    switch (this.#btf.kind(id)) {
      case BTF_KIND.INT:
        return this.#int(id);
      case BTF_KIND.ENUM:
      case BTF_KIND.ENUM64:
        return this.#enum(id);
      case BTF_KIND.FLOAT:
        return leaf({ kind: "float", bytes: this.#btf.target(id) }, Math.max(NUMBER_TEXT, 2 * this.#btf.target(id)));
      case BTF_KIND.PTR: {
        const kernel = kernelPointer(this.#btf, id);
        return leaf({ kind: "pointer", bytes: 8, kernel: kernel !== null && !isRefusal(kernel) }, NUMBER_TEXT);
      }
      case BTF_KIND.ARRAY:
        return this.#array(id, use);
      case BTF_KIND.STRUCT:
      case BTF_KIND.UNION:
        return this.#struct(id, use.depth);
      case BTF_KIND.DATASEC:
        return this.#section(id, use.depth);
      case BTF_KIND.FWD:
        return new Misfit(`struct ${this.#btf.name(id)} is only declared`);
      default:
        return new Misfit("a type that values cannot have");
    }
  }

  #int(id: number): IntShape | Misfit {
    const { bits, offset, encoding } = this.#btf.int(id);
    const bytes = this.#btf.target(id);
    if (bits === 0 || bits > 128 || bytes > 16 || offset + bits > 8 * bytes)
      return new Misfit(`an integer of ${bits} bits in ${bytes} bytes`);
    const isChar = encoding === INT_ENCODING.CHAR;
    const [signed, isBool] = [encoding === INT_ENCODING.SIGNED || isChar, encoding === INT_ENCODING.BOOL];
    return leaf({ kind: "int", bytes, bits, offset, signed, isChar, isBool }, NUMBER_TEXT);
  }

  #enum(id: number): EnumShape | Misfit {
    const bytes = this.#btf.target(id);
    const is64 = this.#btf.kind(id) === BTF_KIND.ENUM64;
    if (![1, 2, 4, 8].includes(bytes) || (is64 && bytes !== 8)) return new Misfit(`an enumeration of ${bytes} bytes`);
    const values: { name: string; value: bigint }[] = [];
    let longest = 0;
    for (let at = 0; at < this.#btf.memberCount(id); at++) {
      const enumerator = this.#btf.enumerator(id, at);
      const name = this.#btf.text(enumerator.name, NAMES_MAX);
      if (!this.#takesName(name)) return TOO_MANY_NAMES;
      longest = Math.max(longest, name.length);
      // Compilers before LLVM 16 and GCC 13 never set kind_flag: values of an ENUM are signed nevertheless.
      values.push({ name, value: is64 ? enumerator.value : BigInt.asIntN(32, enumerator.value) });
    }
    const [name, signed] = [this.#btf.name(id), this.#btf.kindFlag(id)];
    return leaf({ kind: "enum", bytes, name, signed, is64, values }, Math.max(NUMBER_TEXT, escaped(longest)));
  }

  #array(id: number, { codec, address, depth }: Use): ArrayShape | Misfit {
    const { element: of, count } = this.#btf.array(id);
    const element = this.#make(of, { codec, address, depth: depth + 1 });
    if (element instanceof Misfit) return element.inside("[]");
    if (element.kind === "section") return new Misfit("an array of data sections");
    const [chars, plainChars] = [this.#isChar(of, true), this.#isChar(of, false)];
    return {
      kind: "array",
      element,
      count,
      chars,
      plainChars,
      bytes: element.bytes * count,
      leaves: Math.max(1, count * element.leaves),
      textMax: 2 + count * (1 + (chars ? 6 : element.textMax)),
      height: element.height + 1,
    };
  }

  /** Whether a type is char: by its encoding, or by its name, which is all that clang gives. */
  #isChar(of: number, throughTypedefs: boolean): boolean {
    let id = of;
    for (let steps = 0; steps <= CHAIN_MAX && MODIFIERS.has(this.#btf.kind(id) ?? 0); steps++) {
      if (this.#btf.kind(id) === BTF_KIND.TYPEDEF && !throughTypedefs) return false;
      id = this.#btf.target(id);
    }
    if (this.#btf.kind(id) !== BTF_KIND.INT || this.#btf.target(id) !== 1) return false;
    return this.#btf.int(id).encoding === INT_ENCODING.CHAR || this.#btf.name(id) === "char";
  }

  #struct(id: number, depth: number): StructShape | Misfit {
    const [bytes, members] = [this.#btf.target(id), [] as Member[]];
    for (let at = 0; at < this.#btf.memberCount(id); at++) {
      const name = this.#btf.memberName(id, at);
      const member = this.#takesName(name) ? this.#member(id, at, { name, depth }) : TOO_MANY_NAMES;
      if (member instanceof Misfit) return name === "" ? member : member.inside(`.${name}`);
      members.push(member);
    }
    const kind = this.#btf.kind(id) === BTF_KIND.UNION ? "union" : "struct";
    const name = this.#btf.name(id);
    const misfit = misplaced(members, bytes, kind === "union");
    if (misfit !== null) return misfit;
    const special = kind === "struct" && FIELDS[name as FieldKind]?.size === bytes && Object.hasOwn(FIELDS, name);
    return { kind, name, members, special, bytes, ...sums(members, name, kind === "union") };
  }

  /** A member; an integer that is a bitfield by its own offset and width becomes one of the member's. */
  #member(id: number, at: number, { name, depth }: { name: string; depth: number }): Member | Misfit {
    const { offsetBits, bits } = this.#btf.member(id, at);
    const codec = bits === 0 ? this.#tags.ofMember(id, at) : null;
    const address = name.endsWith("addr") || name.endsWith("ip");
    const shape = this.#make(this.#btf.memberType(id, at), { codec, address, depth: depth + 1 });
    if (shape instanceof Misfit) return shape;
    const plain = bits === 0 ? shape : bare(shape);
    if (bits !== 0 && !SCALARS.has(plain.kind)) return new Misfit("a bitfield that is no integer");
    const shift = offsetBits & 7;
    if (bits === 0 && shift !== 0 && (plain.kind !== "int" || shift + plain.offset + plain.bits > 128 + 7))
      return new Misfit("a member that begins within a byte");
    return { name, at: offsetBits >>> 3, shift, bits, shape: plain };
  }

  #section(id: number, depth: number): Shape | Misfit {
    const [bytes, name, members] = [this.#btf.target(id), this.#btf.wholeName(id), [] as Member[]];
    if (!this.#takesName(name)) return TOO_MANY_NAMES;
    for (let at = 0; at < this.#btf.memberCount(id); at++) {
      const { type, offset } = this.#btf.variable(id, at);
      if (this.#btf.kind(type) !== BTF_KIND.VAR) return new Misfit("a data section with a part that is no variable");
      const variable = this.#btf.wholeName(type);
      if (!this.#takesName(variable)) return TOO_MANY_NAMES;
      const use = { codec: this.#tags.ofType(type), address: false, depth: depth + 1 };
      const shape = this.#make(this.#btf.target(type), use);
      if (shape instanceof Misfit) return shape.inside(`.${variable}`);
      members.push({ name: variable, at: offset, shift: 0, bits: 0, shape });
    }
    return misplaced(members, bytes, false) ?? { kind: "section", name, members, bytes, ...sums(members, name) };
  }

  #takesName(name: string): boolean {
    this.#namesLeft -= name.length + 1;
    return this.#namesLeft >= 0;
  }
}

const TOO_DEEP = new Misfit(`types nested in more than ${HEIGHT_MAX} others`);
const TOO_MANY_NAMES = new Misfit(`types whose names have more than ${NAMES_MAX} characters`);

function leaf<const Part extends { readonly kind: Shape["kind"]; readonly bytes: number }>(
  part: Part,
  textMax: number,
): Part & { leaves: number; textMax: number; height: number } {
  return { ...part, leaves: 1, textMax, height: 0 };
}

/** A name of JSON in the worst case: each character is escaped. */
function escaped(length: number): number {
  return 2 + 6 * length;
}

/**
 * A view of a union also counts for its bytes, because writing several views compares
 * them byte by byte.
 */
function sums(
  members: readonly Member[],
  name: string,
  isUnion = false,
): { leaves: number; textMax: number; height: number } {
  let [leaves, textMax, height] = [0, 8 + escaped(name.length), 0];
  for (const member of members) {
    leaves += Math.max(member.shape.leaves, isUnion ? Math.ceil(member.shape.bytes / VIEW_BYTES) : 0);
    textMax += member.shape.textMax + escaped(member.name.length) + 8;
    height = Math.max(height, member.shape.height);
  }
  return { leaves: Math.max(1, leaves), textMax, height: height + 1 };
}

/** The first and last bit of a member, the last one excluded. */
function extent({ at, shift, bits, shape }: Member): readonly [first: number, end: number] {
  if (bits !== 0) return [8 * at + shift, 8 * at + shift + bits];
  const inner = bare(shape);
  if (inner.kind !== "int") return [8 * at, 8 * (at + shape.bytes)];
  const first = 8 * at + shift + inner.offset;
  return [first, first + inner.bits];
}

/** Members must be inside their struct and, unless it is a union, must not overlap. */
function misplaced(members: readonly Member[], bytes: number, isUnion: boolean): Misfit | null {
  let before = 0;
  for (const member of members) {
    const [first, end] = extent(member);
    if (end > 8 * bytes) return new Misfit(`ends beyond the ${bytes} bytes that it is part of`, `.${member.name}`);
    if (!isUnion && first < before) return new Misfit("overlaps another member", `.${member.name}`);
    before = Math.max(before, end);
  }
  return null;
}

/** A shape without its codec. */
export function bare(shape: Shape): Exclude<Shape, { kind: "coded" }> {
  return shape.kind === "coded" ? bare(shape.inner) : shape;
}

/** Whether a struct is a u32 and, from its fourth byte to its end, one other member. */
function isPrefix(shape: Shape): boolean {
  if (shape.kind !== "struct" || shape.members.length !== 2) return false;
  const [length, data] = shape.members as [Member, Member];
  const first = bare(length.shape);
  const isU32 = first.kind === "int" && first.bytes === 4 && first.bits === 32 && !first.signed;
  return (
    isU32 &&
    length.at === 0 &&
    length.bits === 0 &&
    data.at === 4 &&
    data.bits === 0 &&
    4 + data.shape.bytes === shape.bytes
  );
}

function codecText({ name, labels }: Codec, bytes: number): number {
  if (labels !== undefined) return [...labels.values()].reduce((most, text) => Math.max(most, escaped(text.length)), 0);
  if (name === "ifname" || name === "cgroup") return escaped(NAME_TEXT);
  return 8 + 6 * bytes + NUMBER_TEXT;
}
