import t from "tap";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { describeTypes, makeTypes } from "../../src/typed/map_types.ts";
import { Misfit } from "../../src/typed/misfit.ts";
import { unfitForKernel } from "../support/bpffs.ts";
import { random, SEED } from "../support/seed.ts";
import { btfOf, missing } from "./compiled.ts";
import { bpfSource, randomStructs } from "./random_structs.ts";
import { formOf, idOf, must, parsed } from "./subjects.ts";

const SIZES = { keySize: 8, valueSize: 16, isTrie: false };
const BPF = openBpf();
const unfit = unfitForKernel() ?? ("off" in BPF ? BPF.off : null);

/** Why the kernel refuses BTF: an errno; 0: it takes it. */
function loaded(bpf: Bpf, blob: Buffer): number {
  const fd = bpf.loadBtf(blob);
  if (fd < 0) return fd;
  bpf.close(fd);
  return 0;
}

t.test("types are described, made, and described as they were", (t) => {
  const rows: readonly (readonly [json: unknown, keySize: number, valueSize: number, again?: unknown])[] = [
    [{ key: "cidr4", value: { packets: "u64", src: "inet_ip" } }, 8, 16],
    [{ key: "string", value: "u64" }, 16, 8, { key: "string[16]", value: "u64" }],
    [{ key: "errno", value: "s32[2][3]" }, 8, 24, { key: { "@codec": "errno", type: "s64" }, value: "s32[2][3]" }],
    [{ value: { "@packed": { a: "u8", b: "u32" }, name: "tight" } }, 4, 5],
    [{ value: { "@union": { a: "u8", b: "mac" } } }, 4, 6],
    [{ value: { "@codec": "static_map", type: "u32", values: { "1": "read" } } }, 4, 4],
    [
      { value: { "@enum": { A: -1, B: "18446744073709551615" }, name: "e", bytes: 8 } },
      4,
      8,
      { value: { "@enum": { A: "18446744073709551615", B: "18446744073709551615" }, name: "e", bytes: 8 } },
    ],
    [{ value: { "@section": [{ name: "count", type: "u64", bit: 64 }], name: ".data.x", bytes: 16 } }, 4, 16],
    [{ value: { "@struct": [{ name: "a", bit: 3, bits: 5, type: "u32" }], bytes: 4, align: 4 } }, 4, 4],
    [{ value: { a: { "@pointer": "kptr" }, b: "pointer", c: "char_t[8]", d: "float" } }, 4, 32],
  ];
  for (const [json, keySize, valueSize, again = json] of rows) {
    const sizes = { keySize, valueSize, isTrie: false };
    const { blob, keyTypeId, valueTypeId } = must(makeTypes(json, sizes, null));
    t.same(describeTypes({ btf: parsed(blob), keyTypeId, valueTypeId }, sizes), again, JSON.stringify(json));
    if (unfit === null) t.equal(loaded(BPF as Bpf, blob), 0, "the kernel takes the BTF");
  }
  if (unfit !== null) t.pass("BPF_BTF_LOAD", { skip: unfit });
  t.end();
});

t.test("a wrong description names its place", (t) => {
  const rows: readonly (readonly [json: unknown, misfit: string])[] = [
    [5, "types: an object required, found 5"],
    [{}, 'types: "key", "value" or "codecs" required'],
    [{ values: "u64" }, 'types: "key", "value" and "codecs" allowed, found "values"'],
    [{ value: "u64" }, "value: a type of 8 bytes, where 16 are needed"],
    [{ value: { a: "u65" } }, /^value\.a: no type "u65"; there are u8, /.source],
    [{ value: { a: "string" } }, "value.a: a number of bytes required, such as string[16]"],
    [{ value: { "a-b": "u64" } }, 'value: a name of C required, found "a-b"'],
    [
      { value: { a: { "@array": { b: 1 }, count: 2 } } },
      "value.a[].b: the name of a type, or an object of members, required, found 1",
    ],
    [{ value: { "@codec": "mac", type: "u32" } }, "value: mac cannot show a type of 4 bytes like this"],
    [
      { value: { "@codec": "static_map", type: "u32", values: { x: "a" } } },
      'value.values: a number required in place of "x"',
    ],
    [{ value: { "@weird": 1 } }, /^value: @struct, .* allowed, found "@weird"$/.source],
    [{ codecs: { "value.a": "mac" } }, 'types: "key" or "value" required, because the map has no types of its own'],
    [{ value: { a: "u64", b: "u64" }, codecs: { "value.c": "ktime" } }, 'value: no member "c"'],
    [{ value: { a: "u64", b: "u64" }, codecs: { "value.a.b": "ktime" } }, 'value.a: no member "b"'],
    [
      { value: { a: "u64", b: "u64" }, codecs: { "value.a": "mac" } },
      "value.a: mac cannot show a type of 8 bytes like this",
    ],
    [
      { value: { a: "u64", b: "u64" }, codecs: { other: "mac" } },
      'codecs: a path that begins with value required, found "other"',
    ],
    [{ value: "u8[999999999][9]" }, "value: an array of 8999999991 bytes (limit 268435456)"],
  ];
  for (const [json, misfit] of rows) {
    const found = String(makeTypes(json, SIZES, null));
    if (misfit.startsWith("^")) t.match(found, new RegExp(misfit));
    else t.equal(found, misfit, JSON.stringify(json));
  }
  t.end();
});

t.test("a codec at one path leaves the same type elsewhere as it is", (t) => {
  const pair = { "@struct": { src: "u32", dst: "u32" }, name: "pair" };
  const own = must(makeTypes({ value: { a: pair, b: pair } }, SIZES, null));
  const types = { btf: parsed(own.blob), keyTypeId: own.keyTypeId, valueTypeId: own.valueTypeId };
  const op = { "@codec": "static_map", values: { "1": "one" } };
  const made = must(makeTypes({ codecs: { "value.a.src": "inet_ip", "value.b.dst": op } }, SIZES, types));
  const form = formOf(parsed(made.blob), made.valueTypeId);
  const bytes = Buffer.from("0a0000010a0000010a00000101000000", "hex");
  t.equal(form.typed(bytes), '{"a":{"src":"10.0.0.1","dst":16777226},"b":{"src":16777226,"dst":"one"}}');
  t.equal(form.formatted(bytes), formOf(types.btf, types.valueTypeId).formatted(bytes));
  t.end();
});

t.test(
  "random types that are described and made again have the same forms",
  { skip: missing("clang-16") ?? false },
  (t) => {
    t.comment(`SEED=${SEED}`);
    const next = random(SEED);
    // The kernel refuses BTF with a float at an odd offset.
    const structs = randomStructs("s", 150, next).filter(
      ({ kinds }) => !kinds.includes("packed") || !kinds.some((kind) => kind === "float" || kind === "double"),
    );
    const btf = parsed(btfOf("clang-16", bpfSource(structs), t.testdir()));
    for (const struct of structs) {
      const id = idOf(btf, struct.name);
      const form = formOf(btf, id);
      const sizes = { keySize: 0, valueSize: form.bytes, isTrie: false };
      const json = JSON.parse(JSON.stringify(must(describeTypes({ btf, keyTypeId: 0, valueTypeId: id }, sizes))));
      const made = makeTypes(json, sizes, null);
      if (made instanceof Misfit) throw new Error(`${made}\n${struct.c}`);
      const again = formOf(parsed(made.blob), made.valueTypeId);
      for (let fill = 0; fill < 5; fill++) {
        const bytes =
          fill < 2
            ? must(form.fromTyped(struct.sample(next, false).json))
            : Buffer.from(Array.from({ length: form.bytes }, () => next(256)));
        if (
          String(form.typed(bytes)) !== String(again.typed(bytes)) ||
          form.formatted(bytes) !== again.formatted(bytes)
        )
          throw new Error(`${form.typed(bytes)} became ${again.typed(bytes)}\n${struct.c}`);
      }
      if (unfit === null && loaded(BPF as Bpf, made.blob) !== 0)
        throw new Error(`the kernel refuses the BTF of\n${struct.c}`);
    }
    t.pass(`${structs.length} structs`);
    t.end();
  },
);
