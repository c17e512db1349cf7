/** The C of single definitions and declarations. `c.ts` puts them in order. */

import { BTF_KIND } from "../maps/btf_types.ts";
import type { Btf } from "./btf.ts";
import type { Inline } from "./c_inline.ts";
import { type Field, Layouts } from "./c_layout.ts";
import { Identifiers, integerOf, integerWords, literal, NAME_BYTES_MAX } from "./c_names.ts";
import { COMPOSITES, ENUMS, PARAMS_MAX } from "./c_parts.ts";

const { ARRAY, CONST, DATASEC, DECL_TAG, ENUM, FLOAT, FUNC, FUNC_PROTO, FWD, INT, PTR, RESTRICT } = BTF_KIND;
const { TYPEDEF, TYPE_TAG, UNION, VAR, VOLATILE } = BTF_KIND;

const VOID = 0;
const SIGNED = 1;
const BOOL = 4;
const QUALIFIERS: Readonly<Record<number, string>> = {
  [CONST]: "const",
  [VOLATILE]: "volatile",
  [RESTRICT]: "restrict",
};
const FLOATS: Readonly<Record<number, string>> = { 4: "float", 8: "double" };
/** A long double has 16 bytes on most machines, but 8 for BPF. */
const LONG_DOUBLE = (name: string): string => `#if __SIZEOF_LONG_DOUBLE__ == 16
typedef long double ${name};
#else
typedef unsigned __int128 ${name}; /* a float of 16 bytes */
#endif

`;
const MODES: Readonly<Record<number, string>> = { 1: "QI", 2: "HI", 4: "SI", 8: "DI" };
const WHOLE = -1;

/** The text of a base type, and the name with everything around it: `int` and `*x[4]`. */
interface Declarator {
  readonly base: number;
  readonly before: string;
  readonly after: string;
  readonly text: string;
}

/** Names of members of one struct, with those of unnamed structs in it. */
type Scope = Identifiers;

export class Texts {
  readonly #btf: Btf;
  readonly #inline: Inline;
  readonly #layouts: Layouts;
  readonly #tags = new Identifiers();
  readonly #ordinary = new Identifiers();
  readonly #names = new Map<number, string>();
  /** Declaration tags by type and component. */
  readonly #declTags: ReadonlyMap<string, readonly number[]>;

  /** `declTags`: the BTF's declaration tags, by `declTagKey`. */
  constructor(btf: Btf, inline: Inline, declTags: ReadonlyMap<string, readonly number[]>) {
    this.#btf = btf;
    this.#inline = inline;
    this.#layouts = new Layouts(btf);
    this.#declTags = declTags;
  }

  /** Gives a struct, union, enumeration or typedef the same name as another one. */
  share(id: number, with_: number): void {
    this.#names.set(id, this.#name(with_));
  }

  /** `struct x` */
  *forward(id: number): Iterable<string> {
    yield `${this.#tagged(id)};\n\n`;
  }

  *composite(id: number): Iterable<string> {
    const section = this.#btf.kind(id) === DATASEC ? `/* ${this.#comment(id)}: a data section */\n` : "";
    yield `${section}${this.#tagged(id)} `;
    yield* this.#body(id, "", new Identifiers());
    yield `${this.#tagsOf(id, WHOLE)};\n\n`;
  }

  *enumeration(id: number): Iterable<string> {
    const guard = this.#isOfC23(id)
      ? ["#if !defined(__STDC_VERSION__) || __STDC_VERSION__ < 202311L\n", "#endif\n\n"]
      : [];
    yield guard[0] ?? "";
    yield this.#inline.has(id) ? "enum " : `${this.#tagged(id)} `;
    yield* this.#constants(id, "");
    yield guard.length === 0 ? ";\n\n" : ";\n";
    yield guard[1] ?? "";
  }

  /** A typedef, or the typedef that stands for a type without a name. */
  *typedef(id: number): Iterable<string> {
    const btf = this.#btf;
    const isOwn = btf.kind(id) === TYPEDEF;
    const name = this.#name(id);
    const isOfC23 = isOwn && (name === "bool" || name === "nullptr_t");
    if (isOfC23) yield "#if !defined(__STDC_VERSION__) || __STDC_VERSION__ < 202311L\n";
    yield "typedef ";
    yield* this.#declaration(isOwn ? btf.target(id) : id, name, "", isOwn ? null : id);
    yield isOwn ? `${this.#tagsOf(id, WHOLE)};\n` : ";\n";
    yield isOfC23 ? "#endif\n\n" : "\n";
  }

  /** A typedef of a type by a name that it does not have in BTF. */
  *naming(name: string, id: number): Iterable<string> {
    yield "typedef ";
    yield* this.#declaration(id, this.#ordinary.take(name), "");
    yield ";\n\n";
  }

  /** The typedef of an integer or float whose name is not C's; null: it needs none. */
  alias(id: number): string | null {
    const btf = this.#btf;
    if (this.#own(id) !== null) return null;
    const [bytes, isFloat] = [btf.target(id), btf.kind(id) === FLOAT];
    const isSigned = !isFloat && (btf.int(id).encoding & SIGNED) !== 0;
    const name = this.#name(id);
    if (isFloat && bytes === 16) return LONG_DOUBLE(name);
    if (isFloat && FLOATS[bytes] !== undefined) return `typedef ${FLOATS[bytes]} ${name};\n\n`;
    const note = isFloat ? ` /* a float of ${bytes} bytes */` : "";
    if (isFloat && bytes === 12) return `typedef unsigned int ${name}[3];${note}\n\n`;
    const isBool = !isFloat && (btf.int(id).encoding & BOOL) !== 0 && bytes === 1;
    const base = isBool ? "_Bool" : integerOf(bytes, isSigned);
    if (base === undefined) return `typedef unsigned char ${name}[${bytes}]; /* ${bytes} bytes */\n\n`;
    return `typedef ${base} ${name};${note}\n\n`;
  }

  /** C's own name of an integer or float; null: a typedef is its name. */
  #own(id: number): string | null {
    const btf = this.#btf;
    const [name, bytes] = [this.#given(id), btf.target(id)];
    if (btf.kind(id) === FLOAT) return FLOATS[bytes] === name ? name : null;
    const isSigned = (btf.int(id).encoding & SIGNED) !== 0;
    const words = integerWords(name, bytes, isSigned);
    if (words !== null) return words;
    if (name !== "") return null;
    return (btf.int(id).encoding & BOOL) !== 0 && bytes === 1 ? "_Bool" : (integerOf(bytes, isSigned) ?? null);
  }

  /** A type that cannot be written, as nothing in BTF that a kernel takes is, is void. */
  #base(id: number): string {
    const kind = this.#btf.kind(id) ?? VOID;
    if (kind === INT || kind === FLOAT) return this.#own(id) ?? this.#name(id);
    if (kind === TYPEDEF) return this.#inline.isOpaque(id) ? "int" : this.#name(id);
    if (COMPOSITES.has(kind) || ENUMS.has(kind) || kind === FWD || kind === DATASEC) return this.#tagged(id);
    return this.#inline.isCut(id) ? this.#name(id) : "void";
  }

  #tagged(id: number): string {
    const btf = this.#btf;
    const kind = btf.kind(id) ?? VOID;
    const isUnion = kind === UNION || (kind === FWD && btf.kindFlag(id));
    return `${ENUMS.has(kind) ? "enum" : isUnion ? "union" : "struct"} ${this.#name(id)}`;
  }

  /** The name in C; assigned when it is first written. */
  #name(id: number): string {
    const known = this.#names.get(id);
    if (known !== undefined) return known;
    const kind = this.#btf.kind(id) ?? VOID;
    const isTag = COMPOSITES.has(kind) || ENUMS.has(kind) || kind === FWD || kind === DATASEC;
    const given = this.#given(id) || `${isTag ? "anon" : "type"}_${id}`;
    const name = (isTag ? this.#tags : this.#ordinary).take(given);
    this.#names.set(id, name);
    return name;
  }

  #given(id: number): string {
    return this.#btf.text(this.#btf.nameOffset(id), NAME_BYTES_MAX);
  }

  #comment(id: number): string {
    return this.#given(id).replace(/[^\w .$-]/g, "?");
  }

  /** The declaration of a name. `defines`: the type without a name that this defines, so that it is written out. */
  *#declaration(type: number, name: string, indent: string, defines: number | null = null): Iterable<string> {
    const { base, before, after, text } = this.#declarator(type, name, defines);
    yield before;
    yield* this.#baseText(base, indent);
    yield `${after}${text === "" ? "" : ` ${text}`}`;
  }

  *#baseText(base: number, indent: string): Iterable<string> {
    const kind = this.#btf.kind(base) ?? VOID;
    if (!this.#inline.has(base) || !(COMPOSITES.has(kind) || ENUMS.has(kind))) {
      yield this.#base(base);
      return;
    }
    yield ENUMS.has(kind) ? "enum " : kind === UNION ? "union " : "struct ";
    if (ENUMS.has(kind)) yield* this.#constants(base, indent);
    else {
      yield* this.#body(base, indent, new Identifiers());
      yield this.#tagsOf(base, WHOLE);
    }
  }

  #declarator(type: number, name: string, defines: number | null): Declarator {
    const btf = this.#btf;
    const inline = this.#inline;
    let text = name;
    let quals = "";
    let tags = "";
    const isPointer = (): boolean => text.startsWith("*");
    const inside = (): string => (isPointer() ? `(${text})` : text);
    for (let id = type; ; ) {
      const kind = btf.kind(id) ?? VOID;
      const qualifier = QUALIFIERS[kind];
      const isHere = inline.has(id) || id === defines;
      if (kind === FUNC || kind === VAR) id = btf.target(id);
      else if (isHere && qualifier !== undefined) {
        if (!quals.includes(qualifier)) quals += `${qualifier} `;
        id = btf.target(id);
      } else if (isHere && kind === TYPE_TAG) {
        tags += this.#typeTag(id);
        id = btf.target(id);
      } else if (isHere && kind === PTR) {
        const more = `${tags}${tags !== "" && quals !== "" ? " " : ""}${quals}`;
        text = `*${more === "" || more.startsWith(" ") ? "" : " "}${more}${more !== "" && !more.endsWith(" ") && text !== "" ? " " : ""}${text}`;
        quals = tags = "";
        id = inline.isOpaque(id) ? VOID : btf.target(id);
      } else if (isHere && kind === ARRAY) {
        text = `${inside()}[${btf.array(id).count}]`;
        id = btf.array(id).element;
      } else if (isHere && kind === FUNC_PROTO) {
        text = `${inside()}(${this.#params(id)})`;
        quals = tags = "";
        const returned = btf.kind(btf.plain(btf.target(id))) ?? VOID;
        if (returned === ARRAY || returned === FUNC_PROTO) {
          text = `*${text}`;
          id = VOID;
        } else id = btf.target(id);
      } else {
        const isPointer = btf.kind(btf.plain(id)) === PTR;
        return { base: id, before: isPointer ? quals : quals.replace("restrict ", ""), after: tags, text };
      }
    }
  }

  #params(id: number): string {
    const btf = this.#btf;
    const count = btf.memberCount(id);
    if (count > PARAMS_MAX) return `/* ${count} parameters */`;
    const params: string[] = [];
    const names = new Set<string>();
    for (let at = 0; at < count; at++) {
      const { name, type } = btf.param(id, at);
      if (type === VOID) {
        params.push("...");
        continue;
      }
      const given = btf.text(name, NAME_BYTES_MAX);
      const isUsable = /^[A-Za-z_]\w*$/.test(given) && !names.has(given) && !this.#ordinary.has(given);
      names.add(given);
      params.push([...this.#declaration(type, isUsable ? given : "", "")].join(""));
    }
    if (params.length === 0) return "void";
    return params[0] === "..." ? "" : params.join(", ");
  }

  #typeTag(id: number): string {
    // With a kind_flag it is another attribute, of which the name alone does not say whether a compiler knows it.
    return this.#btf.kindFlag(id) ? "" : ` __btf_type_tag(${literal(this.#given(id))})`;
  }

  #tagsOf(id: number, component: number): string {
    const tags = this.#declTags.get(declTagKey(id, component)) ?? [];
    return tags.map((tag) => ` __btf_decl_tag(${literal(this.#given(tag))})`).join("");
  }

  /** `{ ... }` with the attributes after it. */
  *#body(id: number, indent: string, scope: Scope): Iterable<string> {
    const btf = this.#btf;
    const { form, tail } = this.#layouts.of(id);
    const isUnion = btf.kind(id) === UNION;
    const inner = `${indent}\t`;
    yield "{\n";
    if (form === "overlapping") yield* this.#overlapping(id, inner, scope);
    else {
      let end = 0;
      for (let at = 0; at < btf.memberCount(id); at++) {
        const field = this.#layouts.field(id, at);
        if (field.bits === 0) continue;
        if (!isUnion && this.#layouts.natural(end, field, form === "packed") !== field.offsetBits)
          yield* padding(end, field.offsetBits, inner, scope);
        yield* this.#member(id, at, field, inner, scope);
        end = this.#layouts.end(field);
      }
      if (tail > 0) {
        const used = Math.ceil(end / 8);
        yield `${inner}unsigned char ${scope.take(isUnion ? "__size" : `__pad_${used}`)}[${tail}];\n`;
      }
    }
    yield `${indent}}`;
    if (form !== "natural") yield " __attribute__((packed))";
  }

  /** Each member in a struct of its own, with the bytes before it. */
  *#overlapping(id: number, indent: string, scope: Scope): Iterable<string> {
    const btf = this.#btf;
    const inner = `${indent}\t\t`;
    yield `${indent}union {\n`;
    for (let at = 0; at < btf.memberCount(id); at++) {
      const field = this.#layouts.field(id, at);
      if (field.bits === 0) continue;
      yield `${indent}\tstruct {\n`;
      yield* padding(0, field.offsetBits, inner, scope);
      yield* this.#member(id, at, field, inner, scope);
      yield `${indent}\t} __attribute__((packed));\n`;
    }
    yield `${indent}\tunsigned char ${scope.take("__size")}[${btf.target(id)}];\n`;
    yield `${indent}};\n`;
  }

  *#member(id: number, at: number, field: Field, indent: string, scope: Scope): Iterable<string> {
    const { bits, instead, type } = field;
    const given = this.#btf.text(field.name, NAME_BYTES_MAX);
    const tags = this.#tagsOf(id, at);
    yield indent;
    if (given === "" && bits === null && this.#inline.has(type) && COMPOSITES.has(this.#btf.kind(type) ?? VOID)) {
      yield this.#btf.kind(type) === UNION ? "union " : "struct ";
      yield* this.#body(type, indent, scope);
      yield `${this.#tagsOf(type, WHOLE)}${tags};\n`;
      return;
    }
    const name = scope.take(given || `__unnamed_${at}`);
    if (instead === null) yield* this.#declaration(type, name, indent);
    else yield `${instead} ${name}`;
    yield `${bits === null ? "" : `: ${bits}`}${tags};\n`;
  }

  /** `{ A = 0, ... }` with the attribute that gives the enumeration its size. */
  *#constants(id: number, indent: string): Iterable<string> {
    const btf = this.#btf;
    const bits = btf.target(id) * 8;
    const isSigned = btf.kindFlag(id);
    let [least, most] = [0n, 0n];
    yield "{\n";
    if (btf.memberCount(id) === 0) yield `${indent}\t${this.#ordinary.take(`${this.#name(id)}__none`)} = 0,\n`;
    for (let at = 0; at < btf.memberCount(id); at++) {
      const { name, value } = btf.enumerator(id, at);
      const fits = isSigned ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value);
      if (fits < least) least = fits;
      if (fits > most) most = fits;
      const given = btf.text(name, NAME_BYTES_MAX);
      yield `${indent}\t${this.#ordinary.take(given || `anon_${id}_${at}`)} = ${number(fits, btf.kind(id) === ENUM)},\n`;
    }
    const isInt = least < 0n ? least >= -(2n ** 31n) && most < 2n ** 31n : most < 2n ** 32n;
    const usual = isInt ? 32 : 64;
    yield `${indent}}${bits === usual ? "" : ` __attribute__((mode(${MODES[bits / 8]})))`}`;
  }

  /** Whether an enumeration defines the words that C23 has as keywords. */
  #isOfC23(id: number): boolean {
    const btf = this.#btf;
    if (btf.memberCount(id) > 4) return false;
    for (let at = 0; at < btf.memberCount(id); at++)
      if (["true", "false"].includes(btf.text(btf.enumerator(id, at).name, 8))) return true;
    return false;
  }
}

function number(value: bigint, isNarrow: boolean): string {
  if (value === -(2n ** 63n)) return "(-9223372036854775807LL - 1)";
  if (isNarrow) return String(value);
  return value > 2n ** 63n - 1n
    ? `${value}ULL`
    : value >= 2n ** 31n || value < -(2n ** 31n)
      ? `${value}LL`
      : String(value);
}

/** Bytes and bits from one bit to another. None of them raises the alignment. */
function* padding(from: number, to: number, indent: string, scope: Scope): Iterable<string> {
  const first = Math.min((8 - (from % 8)) % 8, to - from);
  if (first > 0) yield `${indent}unsigned char : ${first};\n`;
  const at = from + first;
  const bytes = Math.floor((to - at) / 8);
  if (bytes > 0) yield `${indent}unsigned char ${scope.take(`__pad_${at / 8}`)}[${bytes}];\n`;
  const last = (to - at) % 8;
  if (last > 0) yield `${indent}unsigned char : ${last};\n`;
}

function declTagKey(id: number, component: number): string {
  return `${id} ${component}`;
}

/** Declaration tags of structs, unions and typedefs, and of members, by `declTagKey`. */
export function declTagsOf(btf: Btf): ReadonlyMap<string, readonly number[]> {
  const tags = new Map<string, number[]>();
  for (let id = 1; id < btf.count; id++) {
    if (btf.kind(id) !== DECL_TAG) continue;
    const kind = btf.kind(btf.target(id)) ?? VOID;
    if (!COMPOSITES.has(kind) && kind !== TYPEDEF) continue;
    const key = declTagKey(btf.target(id), btf.component(id));
    const known = tags.get(key);
    if (known === undefined) tags.set(key, [id]);
    else known.push(id);
  }
  return tags;
}
