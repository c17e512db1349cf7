import t from "tap";
import { replay } from "../../conformance/replay.ts";
import { Service } from "../../conformance/service.ts";
import { readTranscripts } from "../../conformance/transcript.ts";

/** How many commands of each transcript are replayed at least: leaving out everything proves nothing. */
const REPLAYED_AT_LEAST: Readonly<Record<string, number>> = {
  access_modes: 92,
  bad_arguments: 133,
  batch_array: 117,
  batch_hash: 396,
  command_matrix: 593,
  create_attr: 33,
  create_btf: 71,
  create_exclusive: 14,
  create_flags: 679,
  create_name: 190,
  create_order: 49,
  create_sizes: 1114,
  freeze: 55,
  ids: 34,
  info: 113,
  judged: 67,
  lifetime: 82,
  mmap_array: 54,
  pins: 71,
  sharing: 78,
  spin_lock: 71,
  type_arena: 23,
  type_array: 91,
  type_bloom: 76,
  type_cgroup_storage: 36,
  type_cpumap: 49,
  type_devmap: 112,
  type_fd_arrays: 83,
  type_hash: 266,
  type_lpm: 148,
  type_lru: 498,
  type_map_in_map: 251,
  type_percpu: 228,
  type_prog_array: 52,
  type_queue_stack: 188,
  type_reuseport: 72,
  type_ringbuf: 31,
  type_sockmap: 124,
  type_stack_trace: 72,
  type_storage: 381,
  type_struct_ops: 1,
  type_xskmap: 70,
};
/** Random ones are 300 commands, or 150. */
const REPLAYED_SHARE_AT_LEAST = 0.93;
/** Types of the running kernel: mapledger has none, and can be asked what comes before them. */
const STRUCT_OPS_SHARE_AT_LEAST = 0.02;
const TRANSCRIPTS_AT_LEAST = 372;

const transcripts = readTranscripts();

t.test("transcripts: as many as there were", async (t) => {
  t.ok(transcripts.length >= TRANSCRIPTS_AT_LEAST, `${transcripts.length} transcripts`);
});

for (const transcript of transcripts)
  t.test(`transcript ${transcript.name}: ${transcript.title}`, async (t) => {
    const service = new Service();
    const { replayed, skipped, wrong } = replay(service, transcript);
    t.same(
      wrong.map(({ line, out }) => ({ ...line, but: out })),
      [],
      "every outcome agrees with the kernel's",
    );

    const share = transcript.name.includes("STRUCT_OPS") ? STRUCT_OPS_SHARE_AT_LEAST : REPLAYED_SHARE_AT_LEAST;
    const least = REPLAYED_AT_LEAST[transcript.name] ?? transcript.lines.length * share;
    t.comment(
      `${replayed} of ${transcript.lines.length} replayed; left out: ${JSON.stringify(Object.fromEntries(skipped))}`,
    );
    t.ok(replayed >= least, `${replayed} commands were replayed: ${least} at least`);

    const before = service.cells();
    t.same(before.fold, before.state, "the state is the fold of the log");
    service.end();
    const after = service.cells();
    t.same(after.fold, after.state, "and still is when the session has ended");
  });
