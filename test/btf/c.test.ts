/** The C of BTF: compilers make of it the sizes and offsets that the BTF has. */

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { BtfGenerator } from "../../conformance/btf_random.ts";
import { Btf } from "../../src/btf/btf.ts";
import { cOf, cOfNamed } from "../../src/btf/c.ts";
import { checkedBtf } from "../../src/btf/check.ts";
import { BTF_KIND } from "../../src/maps/btf_types.ts";
import { isRefusal } from "../../src/maps/refusal.ts";
import { compiledBtf, compilers, constants, Meanings, places, TOO_DEEP, variables } from "../support/compiled_btf.ts";
import { SEED } from "../support/seed.ts";
import { BtfBlob } from "./btf_blob.ts";

const { ARRAY, CONST, DECL_TAG, ENUM, ENUM64, FLOAT, FUNC_PROTO, FWD, INT, PTR, STRUCT, TYPEDEF, UNION } = BTF_KIND;
const VMLINUX = "/sys/kernel/btf/vmlinux";
const KIND_FLAG = 128;
const COMPILERS = compilers();
const NONE = "no compiler that writes BTF: clang-14, clang-16 or gcc";

function parsed(blob: BtfBlob): Btf {
  const btf = checkedBtf(blob.bytes());
  if (isRefusal(btf)) throw new Error(`the test's BTF: ${btf.detail}`);
  return btf;
}

function textOf(btf: Btf): string {
  return [...cOf(btf)].join("");
}

/** The differences between what types mean in BTF and in the BTF of its C. */
function differences(btf: Btf, compiled: Btf, level: ConstructorParameters<typeof Meanings>[1]): string[] {
  const got = new Meanings(compiled, level, btf).all();
  const found: string[] = [];
  for (const [key, texts] of new Meanings(btf, level).all())
    for (const text of texts)
      if (!text.includes(TOO_DEEP) && got.get(key)?.has(text) !== true)
        found.push(`${key}: ${text} became ${[...(got.get(key) ?? ["nothing"])].join(" or ")}`);
  return found;
}

/** GCC 12 leaves out enumerations whose first constant is beyond an int. */
function isToldBy(compiler: string): (difference: string) => boolean {
  return (difference) => compiler !== "gcc" || !new RegExp(`^${ENUM} .* became nothing$`).test(difference);
}

for (const compiler of ["clang-14", "clang-16", "gcc"] as const)
  t.test(
    `types of every kind mean the same to ${compiler}`,
    { skip: !COMPILERS.includes(compiler) && NONE },
    async (t) => {
      const source = readFileSync(join(import.meta.dirname, "../fixtures/btf_kinds.c"), "utf8");
      const btf = compiledBtf(compiler, source);
      const c = textOf(btf);
      const level = compiler === "gcc" ? "typed" : "tagged";
      t.same(differences(btf, compiledBtf(compiler, c + variables(c, btf)), level).filter(isToldBy(compiler)), []);
      for (const other of COMPILERS) {
        t.doesNotThrow(() => compiledBtf(other, c + variables(c, btf) + places(btf)), `${other} has the same places`);
      }
    },
  );

t.test("the kernel's own types have their sizes and offsets", async (t) => {
  const skip = existsSync(VMLINUX) ? COMPILERS.length === 0 && NONE : `no ${VMLINUX}`;
  const btf = skip === false ? (Btf.parse(readFileSync(VMLINUX)) as Btf) : null;
  const c = btf === null ? "" : textOf(btf);
  t.test("all members mean the same to gcc", { skip: skip || (!COMPILERS.includes("gcc") && NONE) }, async (t) => {
    const compiled = compiledBtf("gcc", c + variables(c, btf as Btf) + constants(btf as Btf));
    t.same(differences(btf as Btf, compiled, "typed").filter(isToldBy("gcc")), []);
  });
  for (const compiler of COMPILERS)
    t.test(`all members are in their places for ${compiler}`, { skip }, async (t) => {
      t.doesNotThrow(() => assertPlaces(compiler, c + constants(btf as Btf) + places(btf as Btf)));
    });
});

function assertPlaces(compiler: string, source: string): void {
  const options = compiler.startsWith("clang") ? ["-target", "bpf"] : [];
  execFileSync(compiler, [...options, "-w", "-fsyntax-only", "-x", "c", "-"], { input: source, stdio: "pipe" });
}

t.test("random BTF has its sizes and offsets", { skip: !COMPILERS.includes("gcc") && NONE }, async (t) => {
  const generator = new BtfGenerator(SEED);
  for (let round = 0; round < 40; round++) {
    const btf = checkedBtf(generator.sound());
    if (isRefusal(btf)) continue;
    const c = textOf(btf);
    const source = c + variables(c, btf);
    if (!source.includes("variable_of_")) continue;
    const found = differences(btf, compiledBtf("gcc", source), "placed").filter(
      (text) => !text.startsWith(`${TYPEDEF} `),
    );
    t.same(found, [], `round ${round}`);
  }
});

t.test("a name that C cannot have, or that is taken, is changed", async (t) => {
  const blob = new BtfBlob();
  const int = blob.int("unsigned", 4);
  blob.struct("int", 4, [["while", int, 0]]);
  blob.struct("a.b", 4, [["x", int, 0]]);
  blob.struct("a_b", 8, [
    ["x", int, 0],
    ["x", int, 4],
  ]);
  blob.add(TYPEDEF, "linux", int);
  blob.add(ENUM, "e", 4, 1, [blob.name("linux"), 1]);
  const c = textOf(parsed(blob));
  t.ok(c.includes("struct int___2 {\n\tunsigned while___2;\n};"), c);
  t.ok(c.includes("struct a_b {\n\tunsigned x;\n};"));
  t.ok(c.includes("struct a_b___2 {\n\tunsigned x;\n\tunsigned x___2;\n};"));
  t.ok(c.includes("typedef unsigned linux___2;"));
  t.ok(c.includes("enum e {\n\tlinux___3 = 1,\n};"));
});

t.test("numbers whose names are not C's are typedefs, each of its size", async (t) => {
  const blob = new BtfBlob();
  blob.struct("numbers", 64, [
    ["a", blob.int("u24", 3), 0],
    ["b", blob.int("i64", 8), 8],
    ["c", blob.add(FLOAT, "half", 2), 16],
    ["d", blob.add(FLOAT, "long double", 16), 32],
    ["e", blob.add(FLOAT, "extended", 12), 48],
  ]);
  const c = textOf(parsed(blob));
  t.ok(c.includes("typedef unsigned char u24[3];"), c);
  t.ok(c.includes("typedef unsigned long long i64;"));
  t.ok(c.includes("typedef unsigned short half; /* a float of 2 bytes */"));
  t.ok(c.includes("#if __SIZEOF_LONG_DOUBLE__ == 16\ntypedef long double long_double;\n#else\n"));
  t.ok(c.includes("typedef unsigned int extended[3]; /* a float of 12 bytes */"));
});

t.test("a struct that is declared and defined has one name, and so has an enumeration", async (t) => {
  const blob = new BtfBlob();
  const declared = blob.add(FWD, "s", 0);
  const union = blob.add(FWD | KIND_FLAG, "s", 0);
  blob.struct("user", 16, [
    ["p", blob.add(PTR, "", declared), 0],
    ["q", blob.add(PTR, "", union), 8],
  ]);
  blob.struct("s", 4, [["x", blob.int("unsigned", 4), 0]]);
  const c = textOf(parsed(blob));
  t.ok(c.includes("struct user {\n\tstruct s *p;\n\tunion s___2 *q;\n};"), c);
  t.equal(c.match(/^struct s \{/gm)?.length, 1);
});

t.test("an anonymous struct that leads to itself gets a name; a pointer that does is void *", async (t) => {
  const blob = new BtfBlob();
  // 1 struct { node *next; }   2 node *   3 node   4 (*self)(self)
  blob.add(STRUCT, "", 8, 1, [blob.name("next"), 2, 0]);
  blob.add(PTR, "", 3);
  blob.add(TYPEDEF, "node", 1);
  const proto = 6;
  const pointer = blob.add(PTR, "", proto);
  blob.add(TYPEDEF, "self", pointer);
  blob.add(FUNC_PROTO, "", 0, 1, [0, pointer]);
  const c = textOf(parsed(blob));
  t.ok(c.includes("struct anon_1;\n\ntypedef struct anon_1 node;\n\nstruct anon_1 {\n\tnode *next;\n};"), c);
  t.ok(c.includes("typedef void *self;"), c);
});

t.test("an anonymous enumeration with several uses is defined once", async (t) => {
  const blob = new BtfBlob();
  const words = blob.add(ENUM, "", 4, 1, [blob.name("WORD"), 1]);
  blob.struct("two", 8, [
    ["a", words, 0],
    ["b", words, 4],
  ]);
  blob.add(ENUM, "", 4, 1, [blob.name("ALONE"), 2]);
  const c = textOf(parsed(blob));
  t.equal(
    c,
    "enum anon_1 {\n\tWORD = 1,\n};\n\nstruct two {\n\tenum anon_1 a;\n\tenum anon_1 b;\n};\n\nenum {\n\tALONE = 2,\n};\n\n",
  );
});

t.test("members that overlap are a union", async (t) => {
  const blob = new BtfBlob();
  const [int, long] = [blob.int("unsigned", 4), blob.int("unsigned long", 8)];
  const id = blob.struct("odd", 12, [
    ["a", int, 0],
    ["b", long, 2],
    ["c", int, 8],
  ]);
  const c = textOf(parsed(blob));
  t.match(c, /^struct odd \{\n\tunion \{\n\t\tstruct \{\n\t\t\tunsigned a;\n/);
  t.ok(c.includes("\t\t\tunsigned char __pad_0___2[8];\n\t\t\tunsigned c;\n"), c);
  t.ok(c.endsWith("\t\tunsigned char __size[12];\n\t};\n} __attribute__((packed));\n\n"));
  t.equal(id, 3);
});

t.test("declarators are written as C reads them", async (t) => {
  const blob = new BtfBlob();
  const int = blob.int("unsigned", 4);
  const inner = blob.add(ARRAY, "", 0, 0, [int, int, 5]);
  const grid = blob.add(ARRAY, "", 0, 0, [inner, int, 3]);
  const proto = blob.add(FUNC_PROTO, "", blob.add(PTR, "", grid), 2, [blob.name("at"), int, 0, 0]);
  const table = blob.add(ARRAY, "", 0, 0, [blob.add(PTR, "", proto), int, 2]);
  const fixed = blob.add(CONST, "", blob.add(PTR, "", blob.add(CONST, "", int)));
  blob.struct("all", 88, [
    ["grid", grid, 0],
    ["table", table, 64],
    ["fixed", fixed, 80],
  ]);
  const c = textOf(parsed(blob));
  t.ok(c.includes("\tunsigned grid[3][5];\n"), c);
  t.ok(c.includes("\tunsigned (*(*table[2])(unsigned at, ...))[3][5];\n"));
  t.ok(c.includes("\tconst unsigned * const fixed;\n"));
});

t.test("the types of a map are typedefs, after what they need alone", async (t) => {
  const blob = new BtfBlob();
  const [key, other] = [blob.int("u32", 4), blob.int("u64", 8)];
  const far = blob.struct("far", 8, [["x", other, 0]]);
  const value = blob.struct("value", 8, [["far", blob.add(PTR, "", far), 0]]);
  const c = [...cOfNamed(parsed(blob), { map_key: key, map_value: value })].join("");
  t.equal(
    c,
    "typedef unsigned int u32;\n\ntypedef u32 map_key;\n\nstruct far;\n\nstruct value {\n\tstruct far *far;\n};\n\ntypedef struct value map_value;\n\n",
  );
  t.equal(
    [...cOfNamed(parsed(blob), { map_key: 0, map_value: key })].join(""),
    "typedef unsigned int u32;\n\ntypedef u32 map_value;\n\n",
  );
});

t.test("the text of a tag cannot leave its literal", async (t) => {
  const blob = new BtfBlob();
  const struct = blob.struct("s", 4, [["a", blob.int("unsigned", 4), 0]]);
  blob.add(DECL_TAG, '"); evil(/*\n\\', struct, 0, [-1]);
  const c = textOf(parsed(blob));
  t.ok(c.includes(String.raw`} __btf_decl_tag("\042); evil(/*\012\134");`), c);
});

/** BTF that is small, and whose C would be large or deep if every use of a type were written out. */
const HOSTILE: Readonly<Record<string, () => BtfBlob>> = {
  "a struct of 40 levels, each with the level below it twice"() {
    const blob = new BtfBlob();
    let of = blob.int("unsigned", 4);
    for (let level = 0, size = 4; level < 28; level++, size *= 2)
      of = blob.struct("", size * 2, [
        ["a", of, 0],
        ["b", of, size],
      ]);
    blob.add(TYPEDEF, "top", of);
    return blob;
  },
  "prototypes of 40 levels, each with the level below it 200 times"() {
    const blob = new BtfBlob();
    let of = blob.int("unsigned", 4);
    for (let level = 0; level < 40; level++)
      of = blob.add(PTR, "", blob.add(FUNC_PROTO, "", of, 200, Array(200).fill([0, of]).flat()));
    blob.add(TYPEDEF, "top", of);
    return blob;
  },
  "a chain of 60,000 pointers, each with a typedef"() {
    const blob = new BtfBlob();
    let of = blob.int("unsigned", 4);
    for (let level = 0; level < 60_000; level++) {
      of = blob.add(PTR, "", of);
      if (level % 100 === 0) blob.add(TYPEDEF, `p${level}`, of);
    }
    return blob;
  },
  "anonymous structs of 20,000 levels"() {
    const blob = new BtfBlob();
    let of = blob.int("unsigned", 4);
    for (let level = 0; level < 20_000; level++) of = blob.struct("", 4, [[`m${level}`, of, 0]]);
    blob.add(TYPEDEF, "top", of);
    return blob;
  },
  "a struct of 65,535 members with one name"() {
    const blob = new BtfBlob();
    const int = blob.int("unsigned", 4);
    const name = blob.name("x");
    blob.add(STRUCT, "s", 65_535 * 4, 65_535, Array.from({ length: 65_535 }, (_, at) => [name, int, at * 32]).flat());
    return blob;
  },
  "a function of 65,535 parameters, with 1,000 typedefs"() {
    const blob = new BtfBlob();
    const int = blob.int("unsigned", 4);
    const proto = blob.add(FUNC_PROTO, "", 0, 65_535, Array(65_535).fill([0, int]).flat());
    for (let at = 0; at < 1000; at++) blob.add(TYPEDEF, `f${at}`, blob.add(PTR, "", proto));
    return blob;
  },
};

for (const [what, blob] of Object.entries(HOSTILE))
  t.test(`the C of ${what} is bounded`, async (t) => {
    const bytes = blob().bytes();
    const btf = Btf.parse(bytes) as Btf;
    let [characters, longest] = [0, 0];
    for (const piece of cOf(btf)) {
      characters += piece.length;
      longest = Math.max(longest, piece.length);
    }
    t.ok(characters < 40 * bytes.length + 20_000_000, `${bytes.length} bytes became ${characters} characters`);
    t.ok(longest < 200_000, `a piece has ${longest}`);
  });

t.test("long work has pauses", async (t) => {
  const blob = new BtfBlob();
  const int = blob.int("unsigned", 4);
  for (let at = 0; at < 50_000; at++) blob.add(CONST, "", int);
  t.ok([...cOf(parsed(blob))].filter((piece) => piece === "").length > 10);
});

t.test("constants are those of their enumeration's size and sign", async (t) => {
  const blob = new BtfBlob();
  blob.add(ENUM | KIND_FLAG, "signed_one", 1, 1, [blob.name("A"), -2]);
  blob.add(ENUM, "top", 4, 1, [blob.name("B"), 0xffffffff]);
  blob.add(ENUM64 | KIND_FLAG, "least", 8, 1, [blob.name("C"), 0, 0x80000000]);
  blob.add(ENUM64, "most", 8, 1, [blob.name("D"), 0xffffffff, 0xffffffff]);
  blob.add(ENUM, "eight", 8, 1, [blob.name("E"), 1]);
  blob.add(ENUM, "none", 2);
  blob.add(ENUM, "", 4, 2, [blob.name("false"), 0, blob.name("true"), 1]);
  blob.add(UNION, "u", 0);
  blob.add(INT, "", 4, 0, [32]);
  t.equal(
    textOf(parsed(blob)),
    `enum signed_one {
	A = -2,
} __attribute__((mode(QI)));

enum top {
	B = 4294967295,
};

enum least {
	C = (-9223372036854775807LL - 1),
};

enum most {
	D = 18446744073709551615ULL,
};

enum eight {
	E = 1,
} __attribute__((mode(DI)));

enum none {
	none__none = 0,
} __attribute__((mode(HI)));

#if !defined(__STDC_VERSION__) || __STDC_VERSION__ < 202311L
enum {
	false = 0,
	true = 1,
};
#endif

union u {
};

`,
  );
});
