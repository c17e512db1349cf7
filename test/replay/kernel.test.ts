import { rmSync } from "node:fs";
import * as fc from "fast-check";
import { test } from "tap";
import { Differential } from "../../conformance/differential.ts";
import { HOST, Service as Recording } from "../../conformance/service.ts";
import { STREAM_TYPES } from "../../conformance/shapes.ts";
import { type Step, streams } from "../../conformance/stream.ts";
import { readHost } from "../../src/host.ts";
import { KernelTarget } from "../../src/mirror/kernel_target.ts";
import { ReplayDirectory } from "../../src/mirror/replay_directory.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import type { Difference } from "../../src/replay/compare.ts";
import { Ids } from "../../src/replay/ids.ts";
import { unfitForKernel } from "../support/bpffs.ts";
import { SEED } from "../support/seed.ts";
import { type Replayed, replayedTo } from "./support.ts";

const skip = unfitForKernel() ?? false;
/** SEED and RUNS by the environment: other streams, and more of them. */
/** Replays of which one must differ, if the kernel is free to. */
const REPLAYS_MAX = 20;
const RUNS = Number(process.env.RUNS ?? 2);

const { possibleCpus } = readHost();

/** As in streams.test.ts, on a machine with as many CPUs as this one. */
function recorded(steps: readonly Step[]): Recording {
  const host = { ...HOST, possibleCpus };
  const recording = new Recording({}, host);
  const sayable = steps.filter((step) => step.do !== "remove cgroup");
  new Differential(recording, new Recording({}, host), possibleCpus).run(sayable);
  return recording;
}

async function intoKernel(rows: Recording["log"]["rows"]): Promise<Replayed> {
  const directory = new ReplayDirectory();
  const target = new KernelTarget(openBpf() as Bpf, possibleCpus, directory);
  try {
    return await replayedTo(target, rows, { ids: new Ids({ oneTable: true }) });
  } finally {
    target.close();
    rmSync(directory.path, { recursive: true, force: true });
  }
}

const isOwn = ({ free }: Difference): boolean => free === undefined;

for (const type of STREAM_TYPES)
  test(`random streams over ${type} replay into the kernel, but for what it is free to do`, { skip }, async (t) => {
    for (const steps of fc.sample(streams([type]), { seed: SEED, numRuns: RUNS })) {
      const { differences, summary } = await intoKernel(recorded(steps).log.rows);
      t.strictSame(differences.filter(isOwn), []);
      t.ok(summary.compared > 0);
    }
  });

test("an object is there as long as a duplicate of its descriptor is", { skip }, async (t) => {
  const recording = new Recording({}, { ...HOST, possibleCpus });
  const attr = { map_type: "BPF_MAP_TYPE_CGROUP_ARRAY", key_size: 4, value_size: 4, max_entries: 1 };
  const map_fd = recording.bpf({ cmd: "BPF_MAP_CREATE", attr }).ret;
  const first = recording.open({ kind: "cgroup" }).ret;
  const second = recording.dup(first).ret;
  recording.close(first);
  const value = Buffer.alloc(4);
  value.writeUInt32LE(second);
  const put = { cmd: "BPF_MAP_UPDATE_ELEM", attr: { map_fd, key: "00000000", value: value.toString("hex") } };
  t.equal(recording.bpf(put).errno, null);
  t.strictSame((await intoKernel(recording.log.rows)).differences, []);
});

test("what a take-out has lost is the kernel's to choose, though both refuse it alike", { skip }, async (t) => {
  const recording = new Recording({}, { ...HOST, possibleCpus });
  const attr = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 4, max_entries: 64 };
  const map_fd = recording.bpf({ cmd: "BPF_MAP_CREATE", attr }).ret;
  const elements = Array.from({ length: 40 }, (_, at) => ({ map_fd, key: `${(at + 16).toString(16)}000000` }));
  for (const element of elements)
    recording.bpf({ cmd: "BPF_MAP_UPDATE_ELEM", attr: { ...element, value: "01020304" } });
  const room = { keys: "", values: "", out_batch: "00000000" };
  const take = { map_fd, in_batch: "20000000", count: 10, ...room };
  t.equal(recording.bpf({ cmd: "BPF_MAP_LOOKUP_AND_DELETE_BATCH", attr: take }).errno, "EFAULT");
  for (const element of elements) recording.bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: element });
  // The kernel hashes with a seed of each map: once in a while it loses just the recorded elements.
  let differ = 0;
  for (let left = REPLAYS_MAX; left > 0 && differ === 0; left--) {
    const { differences } = await intoKernel(recording.log.rows);
    t.strictSame(differences.filter(isOwn), []);
    differ = differences.length;
  }
  t.not(differ, 0);
});

test("a recorded outcome that the kernel does not give is reported", { skip }, async (t) => {
  // Of many streams, the first in which a lookup was answered: few have none.
  const found = fc
    .sample(streams(["ARRAY"]), { seed: SEED, numRuns: 100 })
    .map((steps) => recorded(steps).log)
    .map(({ rows }) => ({
      rows,
      lookup: rows.find(({ cmd, value }) => cmd === 1 && value !== null && value.length > 0)?.seq,
    }))
    .find(({ lookup }) => lookup !== undefined);
  const { rows, lookup } = found as NonNullable<typeof found>;
  const lie = (value: Buffer): Buffer => Buffer.from(value.map((byte) => byte ^ 1));
  const lies = rows.map((row) => (row.seq === lookup ? { ...row, value: lie(row.value as Buffer) } : row));
  const { differences } = await intoKernel(lies);
  t.match(differences.filter(isOwn), [{ seq: lookup, cmd: "BPF_MAP_LOOKUP_ELEM", differs: ["value"] }]);
});
