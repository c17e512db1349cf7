import t from "tap";
import { replay } from "./replay.ts";
import { Service } from "./service.ts";
import { readTranscripts } from "./transcript.ts";

/** How many commands of each transcript are replayed at least: leaving out everything proves nothing. */
const REPLAYED_AT_LEAST: Readonly<Record<string, number>> = {
  access_modes: 92,
  bad_arguments: 103,
  batch_array: 66,
  batch_hash: 183,
  command_matrix: 55,
  create_attr: 26,
  create_btf: 5,
  create_exclusive: 10,
  create_flags: 66,
  create_name: 189,
  create_order: 13,
  create_sizes: 115,
  freeze: 55,
  ids: 34,
  info: 45,
  lifetime: 54,
  mmap_array: 16,
  pins: 70,
  sharing: 78,
  spin_lock: 4,
  type_array: 91,
  type_hash: 266,
  type_lpm: 148,
};
/** Random ones are 300 commands, or 150. */
const REPLAYED_SHARE_AT_LEAST = 0.95;
const TRANSCRIPTS_AT_LEAST = 53;

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

    const least = REPLAYED_AT_LEAST[transcript.name] ?? transcript.lines.length * REPLAYED_SHARE_AT_LEAST;
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
