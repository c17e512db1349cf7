import * as fc from "fast-check";
import { test } from "tap";
import { Differential } from "../../conformance/differential.ts";
import { HOST, Service as Recording } from "../../conformance/service.ts";
import { STREAM_TYPES, type StreamType } from "../../conformance/shapes.ts";
import { type Step, streams } from "../../conformance/stream.ts";
import { Service } from "../http/service.ts";
import { SEED } from "../support/seed.ts";
import { replayed } from "./support.ts";

/** SEED and RUNS by the environment: other streams, and more of them. */
const RUNS = Number(process.env.RUNS ?? 1);
const TYPES_AT_ONCE = 5;

/**
 * A stream as a service has recorded it: the steps that compare it with a kernel, which here is another service. No client
 * can say that a cgroup is removed.
 */
function recorded(steps: readonly Step[]): Recording {
  const recording = new Recording({}, HOST);
  new Differential(recording, new Recording({}, HOST), HOST.possibleCpus).run(
    steps.filter((step) => step.do !== "remove cgroup"),
  );
  return recording;
}

const groups: (readonly StreamType[])[] = [];
for (let at = 0; at < STREAM_TYPES.length; at += TYPES_AT_ONCE) groups.push(STREAM_TYPES.slice(at, at + TYPES_AT_ONCE));

for (const types of groups)
  test(`random streams over ${types.join(", ")} replay without a difference`, async (t) => {
    for (const steps of fc.sample(streams(types), { seed: SEED, numRuns: RUNS })) {
      const recording = recorded(steps);
      const service = await Service.start(t);
      const { summary, differences } = await replayed(recording.log.rows, service.app);
      t.strictSame(differences, []);
      t.strictSame(summary.left_out, []);
      t.equal(summary.compared + summary.implied, recording.log.rows.length);
    }
  });
