import t from "tap";
import { Btf } from "../../src/btf/btf.ts";
import { Form } from "../../src/typed/form.ts";
import { describeTypes, makeTypes } from "../../src/typed/map_types.ts";
import { Misfit } from "../../src/typed/misfit.ts";
import { random, SEED } from "../support/seed.ts";
import { btfOf, missing } from "./compiled.ts";
import { bpfSource, randomStructs } from "./random_structs.ts";

/** Damaged BTF, of which an older log may be full, and input of any form: an answer, never an exception. */
const ROUNDS = 60;
const BYTES_MAX = 2 ** 16;
const INPUTS: readonly unknown[] = [
  null,
  true,
  0,
  -1,
  1.5,
  2 ** 60,
  "",
  "x",
  "5",
  "0x5",
  [],
  [1],
  {},
  { a: 1 },
  { "": {} },
  { m0: { m0: {} } },
];

t.test("damaged BTF and strange input are answered", { skip: missing("clang-16") ?? false }, (t) => {
  t.comment(`SEED=${SEED}`);
  const next = random(SEED);
  const whole = btfOf("clang-16", bpfSource(randomStructs("s", 60, next)), t.testdir());
  let [forms, values] = [0, 0];
  for (let round = 0; round < ROUNDS; round++) {
    const btf = Btf.parse(damaged(whole, next));
    if (!(btf instanceof Btf)) continue;
    for (let id = 1; id < btf.count; id += 1 + next(4)) {
      const bytes = btf.size(id) ?? 0;
      const form = Form.make(btf, id, { bytes, isKey: next(2) === 0, isPrefix: next(4) === 0 });
      if (form instanceof Misfit || bytes > BYTES_MAX) continue;
      forms++;
      const value = Buffer.from(Array.from({ length: bytes }, () => next(256)));
      if (JSON.stringify(form.formatted(value)) === "") t.fail("formatted");
      const typed = form.typed(value);
      if (typeof typed === "string" && form.fromTyped(JSON.parse(typed)) instanceof Misfit)
        t.fail(`${typed} is not taken`);
      if (typeof typed === "string") values++;
      const input = INPUTS[next(INPUTS.length)];
      form.fromTyped(input);
      form.fromFormatted(input);
      form.fromText(String(input));
      const described = describeTypes({ btf, keyTypeId: 0, valueTypeId: id }, { isTrie: false });
      if (!(described instanceof Misfit)) makeTypes(described, { keySize: 0, valueSize: bytes, isTrie: false }, null);
    }
  }
  t.ok(forms > 500 && values > 100, `${forms} forms, ${values} typed values`);
  t.end();
});

/** Other bytes in the types, at some places; the header and the strings are left as they are. */
function damaged(whole: Buffer, next: (below: number) => number): Buffer {
  const blob = Buffer.from(whole);
  const [from, length] = [blob.readUInt32LE(4) + blob.readUInt32LE(8), blob.readUInt32LE(12)];
  for (let places = 1 + next(6); places > 0; places--) {
    const at = from + next(length);
    blob[at] = next(3) === 0 ? next(256) : (blob[at] as number) ^ (1 << next(8));
  }
  return blob;
}
