import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Btf } from "../../src/btf/btf.ts";
import { BTF_KIND } from "../../src/maps/btf_types.ts";

/** Compilers that write BTF of what they compile. */
const COMPILERS = {
  "clang-14": ["-target", "bpf", "-g", "-O0"],
  "clang-16": ["-target", "bpf", "-g", "-O0"],
  gcc: ["-gbtf", "-O0"],
} as const;

type Compiler = keyof typeof COMPILERS;

/** The compilers that this machine has. */
export function compilers(): readonly Compiler[] {
  return (Object.keys(COMPILERS) as Compiler[]).filter((compiler) => {
    try {
      execFileSync(compiler, ["--version"], { stdio: "ignore" });
      return true;
    } catch {
      return false;
    }
  });
}

/** The BTF that a compiler writes of C. */
export function compiledBtf(compiler: Compiler, source: string): Btf {
  const directory = mkdtempSync(join(tmpdir(), "mapledger-c-"));
  try {
    writeFileSync(join(directory, "types.c"), source);
    const [input, output] = [join(directory, "types.c"), join(directory, "types.o")];
    execFileSync(compiler, [...COMPILERS[compiler], "-w", "-c", input, "-o", output], { stdio: "pipe" });
    const btf = Btf.parse(section(readFileSync(output), ".BTF"));
    if (!(btf instanceof Btf)) throw new Error(`BTF of ${compiler}: ${btf.detail}`);
    return btf;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** A section of an object file: ELF of 64 bits, little-endian. */
function section(elf: Buffer, name: string): Buffer {
  const start = Number(elf.readBigUInt64LE(40));
  const [size, count, names] = [elf.readUInt16LE(58), elf.readUInt16LE(60), elf.readUInt16LE(62)];
  const field = (at: number, offset: number): number => Number(elf.readBigUInt64LE(start + at * size + offset));
  const bytes = (at: number): Buffer => elf.subarray(field(at, 24), field(at, 24) + field(at, 32));
  const texts = bytes(names);
  for (let at = 0; at < count; at++) {
    const from = elf.readUInt32LE(start + at * size);
    if (texts.toString("latin1", from, texts.indexOf(0, from)) === name) return Buffer.from(bytes(at));
  }
  throw new Error(`no section ${name}`);
}

const { ARRAY, CONST, DATASEC, ENUM, ENUM64, FLOAT, FUNC, FUNC_PROTO, FWD, INT, PTR, RESTRICT, STRUCT } = BTF_KIND;
const { TYPEDEF, TYPE_TAG, UNION, VAR, VOLATILE } = BTF_KIND;
const WORDS: Readonly<Record<number, string>> = { [CONST]: "const", [VOLATILE]: "volatile", [RESTRICT]: "restrict" };
const NAMED: ReadonlySet<number> = new Set([STRUCT, UNION, ENUM, ENUM64, TYPEDEF, DATASEC]);
const NUMBERS = ["unsigned", "signed", "unsigned", "signed", "bool"];
const NAME_BYTES = 512;
/** Types that are nested deeper are not compared. */
const DEPTH_MAX = 48;
export const TOO_DEEP = "...";

/**
 * What types mean, apart from ids, order, and names that C cannot have. BTF and the BTF of its C have the same texts.
 */
export class Meanings {
  readonly #btf: Btf;
  readonly #level: "tagged" | "typed" | "placed";
  /** Names of typedefs that count; the others are those that C has for numbers whose names it does not know. */
  readonly #typedefs: ReadonlySet<string>;
  #depth = 0;

  /**
   * `level`: "tagged" compares types with their type tags, "typed" without, and "placed" compares sizes alone, because
   * compilers write some types otherwise than they were given. `of`: the BTF whose C this is the BTF of.
   */
  constructor(btf: Btf, level: "tagged" | "typed" | "placed", of = btf) {
    this.#btf = btf;
    this.#level = level;
    this.#typedefs = typedefsOf(of);
  }

  /** By kind and name of a struct, union, enumeration or typedef: what it means; several, if several have the name. */
  all(): ReadonlyMap<string, ReadonlySet<string>> {
    const all = new Map<string, Set<string>>();
    for (let id = 1; id < this.#btf.count; id++) {
      const kind = this.#btf.kind(id) as number;
      if (!NAMED.has(kind) || this.#isNameless(id)) continue;
      if ((kind === ENUM || kind === ENUM64) && this.#btf.memberCount(id) === 0) continue;
      // Sections of an object file have no places yet: libbpf assigns them.
      if (kind === DATASEC && this.#btf.target(id) === 0) continue;
      const key = `${this.#tag(id)} ${this.#name(id)}`;
      const body = kind === TYPEDEF ? this.use(this.#btf.target(id)) : this.#body(id);
      all.set(key, (all.get(key) ?? new Set()).add(body));
    }
    return all;
  }

  /** A type as a part of another. */
  use(id: number): string {
    if (this.#level === "placed") return String(this.#btf.size(id) ?? "");
    if (this.#depth > DEPTH_MAX) return TOO_DEEP;
    this.#depth++;
    const text = this.#use(id);
    this.#depth--;
    return text;
  }

  #use(id: number): string {
    const btf = this.#btf;
    const kind = btf.kind(id) ?? 0;
    const of = btf.target(id);
    switch (kind) {
      case 0:
        return "void";
      case INT:
        return this.#number(id);
      case FLOAT:
        return { 2: "unsigned2", 12: "[3]unsigned4" }[of] ?? `float${of}`;
      case PTR:
        return `*${this.use(of)}`;
      case FUNC:
      case VAR:
        return this.use(of);
      case CONST:
      case VOLATILE:
      case RESTRICT:
        return this.#qualified(id);
      case TYPE_TAG:
        return this.#level === "tagged" ? `tag(${btf.wholeName(id)}) ${this.use(of)}` : this.use(of);
      case ARRAY:
        return this.#qualified(id);
      case FUNC_PROTO: {
        const params = Array.from({ length: btf.memberCount(id) }, (_, at) => this.use(btf.param(id, at).type));
        return `(${params})${this.use(of)}`;
      }
      case TYPEDEF:
        return this.#isNameless(id) || !this.#typedefs.has(this.#name(id))
          ? this.use(of)
          : `${TYPEDEF} ${this.#name(id)}`;
      default:
        return this.#isNameless(id) ? this.#body(id) : `${this.#tag(id)} ${this.#name(id)}`;
    }
  }

  #number(id: number): string {
    const btf = this.#btf;
    const bytes = btf.target(id);
    // Whether a plain char is signed depends on the machine and on the compiler's options.
    if (btf.wholeName(id) === "char" && bytes === 1) return "char";
    if (![1, 2, 4, 8, 16].includes(bytes)) return `[${bytes}]unsigned1`;
    const number = NUMBERS[btf.int(id).encoding] as string;
    return `${number === "bool" && bytes > 1 ? "unsigned" : number}${bytes}`;
  }

  /** Qualifiers have no order in C, and those of an array are its elements'. */
  #qualified(id: number, outer: ReadonlySet<string> = new Set()): string {
    const words = new Set(outer);
    let of = id;
    for (; WORDS[this.#btf.kind(of) as number] !== undefined; of = this.#btf.target(of))
      words.add(WORDS[this.#btf.kind(of) as number] as string);
    // GCC 12 writes the bounds of an array of arrays in the wrong order, so that they are compared without one.
    const bounds: number[] = [];
    for (; this.#btf.kind(of) === ARRAY; of = this.#btf.array(of).element) bounds.push(this.#btf.array(of).count);
    if (bounds.length > 0) return `[${bounds.sort((a, b) => a - b)}]${this.#qualified(of, words)}`;
    // C knows restrict for pointers alone.
    if (this.#btf.kind(this.#btf.plain(of)) !== PTR) words.delete("restrict");
    return [...[...words].sort(), this.use(of)].join(" ");
  }

  #body(id: number): string {
    const btf = this.#btf;
    const kind = btf.kind(id) as number;
    // Compilers leave out, or cut, values that their BTF cannot have: `constants` checks them.
    if (kind === ENUM || kind === ENUM64) return `${btf.target(id)}`;
    return `${this.#tag(id)}:${btf.target(id)}{${this.#members(id, 0).sort().join(";")}}`;
  }

  /** Members with their places, those of unnamed structs among them. Members that only fill places are left out. */
  #members(id: number, from: number): string[] {
    const btf = this.#btf;
    return Array.from({ length: btf.memberCount(id) }, (_, at) => {
      const { type, name, offsetBits, bits } = this.#member(id, at);
      if (/^__pad_\d+$|^__size$/.test(name)) return [];
      const given = name.replace(/^__unnamed_\d+$/, "");
      const isPart = given === "" && [STRUCT, UNION].includes(btf.kind(type) as never) && this.#isNameless(type);
      if (isPart) return this.#members(type, from + offsetBits);
      return [`${given}@${from + offsetBits}:${bits > 0 ? bits : this.use(type)}`];
    }).flat();
  }

  #member(id: number, at: number): { type: number; name: string; offsetBits: number; bits: number } {
    const btf = this.#btf;
    if (btf.kind(id) === DATASEC) {
      const { type, offset } = btf.variable(id, at);
      return { type: btf.target(type), name: this.#name(type), offsetBits: offset * 8, bits: 0 };
    }
    const type = btf.memberType(id, at);
    const { offsetBits, bits } = btf.member(id, at);
    const name = clean(btf.memberName(id, at));
    const plain = btf.plain(type);
    if (bits > 0 || btf.kind(plain) !== INT) return { type, name, offsetBits, bits };
    const int = btf.int(plain);
    const isWhole = int.bits === btf.target(plain) * 8 && (offsetBits + int.offset) % 8 === 0;
    return { type, name, offsetBits: offsetBits + int.offset, bits: isWhole ? 0 : int.bits };
  }

  #tag(id: number): number {
    const kind = this.#btf.kind(id) as number;
    if (kind === FWD) return this.#btf.kindFlag(id) ? UNION : STRUCT;
    return { [ENUM64]: ENUM, [DATASEC]: STRUCT }[kind] ?? kind;
  }

  #isNameless(id: number): boolean {
    return /^$|^(anon|type)_\d+$/.test(this.#btf.wholeName(id));
  }

  #name(id: number): string {
    return clean(this.#btf.text(this.#btf.nameOffset(id), NAME_BYTES));
  }
}

function clean(name: string): string {
  return name.replace(/___\d+$/, "").replace(/[^\w]/g, "_");
}

/** Names of typedefs that are not names of numbers, too. */
function typedefsOf(btf: Btf): ReadonlySet<string> {
  const names = new Set<string>();
  const numbers = new Set<string>();
  for (let id = 1; id < btf.count; id++) {
    const name = clean(btf.text(btf.nameOffset(id), NAME_BYTES));
    if (btf.kind(id) === TYPEDEF) names.add(name);
    if (btf.kind(id) === INT || btf.kind(id) === FLOAT) numbers.add(name);
  }
  for (const name of numbers) names.delete(name);
  return names;
}

/** Variables of all types that C defines, so that a compiler writes BTF of them. */
export function variables(c: string, btf: Btf): string {
  const types = new Set([...c.matchAll(/^(?:struct|union|enum) \w+ (?=\{)/gm)].map(([type]) => type));
  const sized = new Map<string, boolean>();
  for (let id = 1; id < btf.count; id++)
    if (btf.kind(id) === TYPEDEF) {
      const name = clean(btf.text(btf.nameOffset(id), NAME_BYTES));
      sized.set(name, (sized.get(name) ?? true) && btf.size(id) !== undefined);
    }
  for (const [line] of c.matchAll(/^(?:typedef .*|\}.*);$/gm)) {
    const plain = line.replace(/ __btf_\w+_tag\(".*?"\)/g, "");
    const name = (/\(\*+[^()*]*?(\w+)(?:\[\d+\])*\)/.exec(plain) ??
      /(\w+)(?:\[\d+\])*;$/.exec(plain) ??
      /(\w+)\(/.exec(plain))?.[1];
    if (name !== undefined && sized.has(clean(name)))
      types.add(`${name} ${sized.get(clean(name)) === true ? "" : "*"}`);
  }
  return [...types].map((type, at) => `${type}variable_of_${at};\n`).join("");
}

/** Assertions that each enumerator has its value. Of several with one name the first has the name. */
export function constants(btf: Btf): string {
  const seen = new Set<string>();
  const lines: string[] = [];
  for (let id = 1; id < btf.count; id++) {
    if (btf.kind(id) !== ENUM && btf.kind(id) !== ENUM64) continue;
    for (let at = 0; at < btf.memberCount(id); at++) {
      const { name, value } = btf.enumerator(id, at);
      const given = btf.text(name, NAME_BYTES);
      if (seen.has(given)) continue;
      seen.add(given);
      lines.push(`_Static_assert((unsigned long long)${given} == ${BigInt.asUintN(64, value)}ULL, "${given}");\n`);
    }
  }
  return lines.join("");
}

/**
 * Assertions that each named struct has its size, and each member its offset. Of several with one name the first has
 * the name; bit fields have no offset in C.
 */
export function places(btf: Btf): string {
  const seen = severalOf(btf);
  const lines = ["#define at(type, member) __builtin_offsetof(type, member)\n"];
  for (let id = 1; id < btf.count; id++) {
    const kind = btf.kind(id) as number;
    const name = btf.wholeName(id);
    if ((kind !== STRUCT && kind !== UNION) || !/^[A-Za-z_]\w*$/.test(name) || seen.has(name)) continue;
    seen.add(name);
    const type = `${kind === STRUCT ? "struct" : "union"} ${name}`;
    lines.push(`_Static_assert(sizeof(${type}) == ${btf.target(id)}, "${name}");\n`);
    for (let at = 0; at < btf.memberCount(id); at++) {
      const { offsetBits, bits } = btf.member(id, at);
      const member = btf.memberName(id, at);
      if (bits > 0 || !/^[A-Za-z_]\w*$/.test(member)) continue;
      lines.push(`_Static_assert(at(${type}, ${member}) == ${offsetBits / 8}, "${name}.${member}");\n`);
    }
  }
  return lines.join("");
}

/** Names of several tags that are not all structs, or all unions: which of them has the name depends on their order. */
function severalOf(btf: Btf): Set<string> {
  const kinds = new Map<string, number>();
  const several = new Set<string>();
  for (let id = 1; id < btf.count; id++) {
    const tag = btf.kind(id) === FWD ? (btf.kindFlag(id) ? UNION : STRUCT) : (btf.kind(id) as number);
    if (![STRUCT, UNION, ENUM, ENUM64].includes(tag as never)) continue;
    const name = btf.wholeName(id);
    if ((kinds.get(name) ?? tag) !== tag) several.add(name);
    kinds.set(name, tag);
  }
  return several;
}
