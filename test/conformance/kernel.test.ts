import t from "tap";
import { Kernel } from "../../conformance/kernel.ts";
import { compareRandomly } from "../../conformance/random.ts";
import { replay } from "../../conformance/replay.ts";
import { HOST } from "../../conformance/service.ts";
import { STREAM_TYPES, type StreamType } from "../../conformance/shapes.ts";
import { readTranscripts } from "../../conformance/transcript.ts";
import { unfitForKernel } from "../support/bpffs.ts";
import { SEED } from "../support/seed.ts";

const unfit = unfitForKernel();
const skip = unfit ?? false;

const TIME_MS = Number(process.env.CONFORMANCE_TIME_MS ?? 20_000);
/** However slow the machine is. */
const COMMANDS_AT_LEAST = 500;

const FAMILIES: Readonly<Record<string, readonly StreamType[]>> = {
  hashes: ["HASH", "PERCPU_HASH", "LRU_HASH", "LRU_PERCPU_HASH"],
  arrays: ["ARRAY", "PERCPU_ARRAY"],
  "tries, lines and filters": ["LPM_TRIE", "QUEUE", "STACK", "BLOOM_FILTER"],
  "maps of maps": ["ARRAY_OF_MAPS", "HASH_OF_MAPS"],
  "where packets go": ["DEVMAP", "DEVMAP_HASH", "CPUMAP", "XSKMAP"],
  "arrays of descriptors": ["PROG_ARRAY", "PERF_EVENT_ARRAY", "CGROUP_ARRAY"],
  sockets: ["SOCKMAP", "SOCKHASH", "REUSEPORT_SOCKARRAY"],
  "local storage": ["SK_STORAGE", "INODE_STORAGE", "TASK_STORAGE", "CGRP_STORAGE"],
  "what programs fill": ["CGROUP_STORAGE", "PERCPU_CGROUP_STORAGE", "STACK_TRACE"],
  "memory, kernel structs": ["RINGBUF", "USER_RINGBUF", "ARENA", "STRUCT_OPS"],
};

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

for (const [family, types] of Object.entries(FAMILIES))
  t.test(`${family}: the service and the live kernel answer random commands alike`, { skip }, async (t) => {
    t.comment(`SEED=${SEED}`);
    const { commands } = compareRandomly({
      types,
      seed: SEED,
      commands: COMMANDS_AT_LEAST,
      timeMs: TIME_MS / Object.keys(FAMILIES).length,
    });
    t.ok(commands >= COMMANDS_AT_LEAST, `${commands} commands`);
  });

t.test("the service and the live kernel answer random commands on maps of all types alike", { skip }, async (t) => {
  t.comment(`SEED=${SEED}`);
  const { commands } = compareRandomly({
    types: STREAM_TYPES,
    seed: SEED,
    commands: COMMANDS_AT_LEAST,
    timeMs: TIME_MS / 4,
  });
  t.ok(commands >= COMMANDS_AT_LEAST, `${commands} commands`);
});

t.test("every map type is of a family", async (t) => {
  t.same(Object.values(FAMILIES).flat().sort(), [...STREAM_TYPES].sort());
});
