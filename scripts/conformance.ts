import { parseArgs } from "node:util";
import { record } from "../test/conformance/judged.ts";
import { compareRandomly } from "../test/conformance/random.ts";
import { STREAM_TYPES, type StreamType } from "../test/conformance/shapes.ts";
import { unfitForKernel } from "../test/support/bpffs.ts";

/**
 * Random commands to the service and to the live kernel: npm run conformance -- --types HASH,ARRAY --commands 100000 --seed 1
 * With --record a run without a difference is added to test/conformance/judged.json.
 */
const { values } = parseArgs({
  options: {
    types: { type: "string", default: STREAM_TYPES.join(",") },
    commands: { type: "string", default: "100000" },
    seed: { type: "string", default: String(Date.now() % 1_000_000_000) },
    record: { type: "boolean", default: false },
  },
});

const types = values.types.split(",").map((type) => {
  if (STREAM_TYPES.includes(type as StreamType)) return type as StreamType;
  throw new Error(`--types: ${STREAM_TYPES.join(", ")} are known, found ${type}`);
});
const commands = wholeNumber("commands");
const seed = wholeNumber("seed");

const unfit = unfitForKernel();
if (unfit !== null) {
  console.error(`nothing to compare with: ${unfit}`);
  process.exit(1);
}

const started = performance.now();
console.log(`seed ${seed}: ${commands} commands on ${types.join(", ")}`);
try {
  const judged = compareRandomly({ types, seed, commands, timeMs: 0 });
  console.log(`${judged.commands} commands in ${((performance.now() - started) / 1000).toFixed(1)} s: no difference`);
  if (values.record) record(judged, seed);
} catch (error) {
  console.error((error as Error).message);
  console.error(String((error as Error).cause));
  process.exit(1);
}

function wholeNumber(option: "commands" | "seed"): number {
  const number = Number(values[option]);
  if (!Number.isSafeInteger(number)) throw new Error(`--${option}: a whole number is needed, found ${values[option]}`);
  return number;
}
