import t from "tap";
import { unfitForKernel } from "../support/bpffs.ts";
import { Kernel } from "./kernel.ts";
import { compareRandomly } from "./random.ts";
import { replay } from "./replay.ts";
import { HOST } from "./service.ts";
import { STREAM_TYPES } from "./stream.ts";
import { readTranscripts } from "./transcript.ts";

const unfit = unfitForKernel();
const skip = unfit ?? false;

const SEED = Number(process.env.CONFORMANCE_SEED ?? Date.now() % 1_000_000_000);
const TIME_MS = Number(process.env.CONFORMANCE_TIME_MS ?? 12_000);
/** Fewer than a slow machine sends in the time. */
const COMMANDS_AT_LEAST = 2_000;

t.test("the live kernel answers the transcripts as it did when they were recorded", { skip }, async (t) => {
  for (const transcript of readTranscripts()) {
    const kernel = new Kernel(HOST.possibleCpus);
    const { replayed, wrong } = replay(kernel, transcript);
    kernel.end();
    t.same(
      wrong.map(({ line, out }) => ({ ...line, but: out })),
      [],
      `${transcript.name}: ${replayed} commands`,
    );
  }
});

for (const type of STREAM_TYPES)
  t.test(`BPF_MAP_TYPE_${type} the service and the live kernel answer random commands alike`, { skip }, async (t) => {
    t.comment(`CONFORMANCE_SEED=${SEED}`);
    const commands = compareRandomly({
      types: [type],
      seed: SEED,
      commands: Number.POSITIVE_INFINITY,
      timeMs: TIME_MS / 4,
    });
    t.ok(commands >= COMMANDS_AT_LEAST, `${commands} commands`);
  });

t.test("the service and the live kernel answer random commands on maps of all types alike", { skip }, async (t) => {
  t.comment(`CONFORMANCE_SEED=${SEED}`);
  const commands = compareRandomly({
    types: STREAM_TYPES,
    seed: SEED,
    commands: Number.POSITIVE_INFINITY,
    timeMs: TIME_MS / 4,
  });
  t.ok(commands >= COMMANDS_AT_LEAST, `${commands} commands`);
});
