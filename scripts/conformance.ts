import { parseArgs } from "node:util";
import { judgeRandomBtf } from "../conformance/btf_judge.ts";
import { record } from "../conformance/judged.ts";
import { compareRandomly } from "../conformance/random.ts";
import { STREAM_TYPES, type StreamType } from "../conformance/shapes.ts";
import { unfitForKernel } from "../test/support/bpffs.ts";

/**
 * Random commands to the service and to the live kernel: npm run conformance -- --types HASH,ARRAY --commands 100000 --seed 1
 * With --record a run without a difference is added to conformance/judged.json.
 * With --btf 100000 random BTF instead, until the kernel has taken so many blobs and refused as many.
 */
const { values } = parseArgs({
  options: {
    types: { type: "string", default: STREAM_TYPES.join(",") },
    commands: { type: "string", default: "100000" },
    seed: { type: "string", default: String(Date.now() % 1_000_000_000) },
    record: { type: "boolean", default: false },
    btf: { type: "string", default: "0" },
  },
});

const types = values.types.split(",").map((type) => {
  if (STREAM_TYPES.includes(type as StreamType)) return type as StreamType;
  throw new Error(`--types: ${STREAM_TYPES.join(", ")} are known, found ${type}`);
});
const [commands, seed, btf] = (["commands", "seed", "btf"] as const).map(wholeNumber) as [number, number, number];

const unfit = unfitForKernel();
if (unfit !== null) {
  console.error(`nothing to compare with: ${unfit}`);
  process.exit(1);
}

const started = performance.now();
console.log(`seed ${seed}: ${btf > 0 ? `${btf} blobs of each` : `${commands} commands on ${types.join(", ")}`}`);
try {
  if (btf > 0) alike(JSON.stringify(judgeRandomBtf(btf, seed)));
  else {
    const judged = compareRandomly({ types, seed, commands, timeMs: 0 });
    alike(`${judged.commands} commands`);
    if (values.record) record(judged, seed);
  }
} catch (error) {
  console.error((error as Error).message);
  console.error(String((error as Error).cause));
  process.exit(1);
}

function alike(what: string): void {
  console.log(`${what} in ${((performance.now() - started) / 1000).toFixed(1)} s: no difference`);
}

function wholeNumber(option: "commands" | "seed" | "btf"): number {
  const number = Number(values[option]);
  if (!Number.isSafeInteger(number)) throw new Error(`--${option}: a whole number is needed, found ${values[option]}`);
  return number;
}
