import t from "tap";
import { coverage } from "../../src/typed/coverage.ts";
import { Misfit } from "../../src/typed/misfit.ts";
import type { Shape } from "../../src/typed/shape.ts";
import { ShapeMaker } from "../../src/typed/shape_maker.ts";
import { random, SEED } from "../support/seed.ts";
import { btfOf, missing, outputOf } from "./compiled.ts";
import { bpfSource, type Generated, KINDS, printerSource, randomStructs } from "./random_structs.ts";
import { formOf, idOf, must, parsed, parsedExactly } from "./subjects.ts";

/**
 * Random structs, compiled for BPF by clang and for this machine by gcc: a C program reads the values that were written
 * typed, and whatever is read typed is written back to the same bytes.
 */
const CLANGS = ["clang-16", "clang-14"];
const STRUCTS = 120;
/** Random bytes for each struct. */
const FILLS = 8;
const LEAST = 20;

t.comment(`SEED=${SEED}`);

t.test("each kind of member occurs often among the random structs", (t) => {
  const all = CLANGS.flatMap((_, at) => randomStructs("s", STRUCTS, random(SEED + at)));
  const counts = new Map<string, number>();
  for (const kind of all.flatMap(({ kinds }) => kinds)) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  for (const kind of [...KINDS, "packed"]) t.ok((counts.get(kind) ?? 0) >= LEAST, `${kind}: ${counts.get(kind)}`);
  t.end();
});

for (const [at, clang] of CLANGS.entries()) {
  const reason = missing(clang) ?? missing("gcc");
  t.test(`values written typed are what a C program reads, by the BTF of ${clang}`, { skip: reason ?? false }, (t) => {
    const next = random(SEED + at);
    const structs = randomStructs("s", STRUCTS, next);
    const directory = t.testdir();
    const btf = parsed(btfOf(clang, bpfSource(structs), directory));
    const written: Buffer[] = [];
    const expected: string[] = [];
    for (const struct of structs) {
      const form = formOf(btf, idOf(btf, struct.name));
      const { json, lines } = struct.sample(next, false);
      const bytes = form.fromTyped(json);
      if (bytes instanceof Misfit) throw new Error(`${bytes}\n${struct.c}\n${JSON.stringify(json)}`);
      written.push(bytes);
      expected.push(`${struct.name} ${form.bytes}`, ...lines);
      sameAgain(struct, [form.fromTyped(JSON.parse(must(form.typed(bytes)))), bytes]);
      sameAgain(struct, [form.fromFormatted(parsedExactly(form.formatted(bytes))), bytes]);
    }
    const printed = outputOf("gcc", printerSource(structs), { directory, input: Buffer.concat(written) });
    t.same(printed.trimEnd().split("\n"), expected);

    let typed = 0;
    for (const struct of structs) {
      const id = idOf(btf, struct.name);
      const form = formOf(btf, id);
      const mask = coverage(new ShapeMaker(btf).make(id) as Shape);
      for (let fill = 0; fill < FILLS; fill++) {
        const bytes = Buffer.from(Array.from({ length: form.bytes }, () => (next(2) === 0 ? next(2) : next(256))));
        const text = form.typed(bytes);
        if (text instanceof Misfit) continue;
        typed++;
        const covered = Buffer.from(bytes.map((byte, index) => byte & (mask[index] as number)));
        sameAgain(struct, [form.fromTyped(JSON.parse(text)), covered]);
      }
    }
    t.ok(typed > STRUCTS, `${typed} of ${STRUCTS * FILLS} random values have a typed form`);
    t.end();
  });
}

function sameAgain({ c }: Generated, [again, bytes]: readonly [Buffer | Misfit, Buffer]): void {
  if (again instanceof Misfit || !again.equals(bytes))
    throw new Error(`${bytes.toString("hex")} became ${again instanceof Misfit ? again : again.toString("hex")}\n${c}`);
}
