/**
 * A job's thread: writes the archive, beside the engine and not in its way. The event and the removal of rows are the
 * engine's.
 */

import { runArchive } from "../data/archive_job.ts";
import { ARCHIVE_JOB } from "../data/archive_protocol.ts";
import { thisThread } from "../supervisor/thread.ts";

const thread = thisThread(ARCHIVE_JOB);
const { job, treeSize } = thread.data;

thread.serve(
  {
    archive: () =>
      runArchive(job, { treeSize, planned: (plan) => thread.say("planned", { plan }) }, ({ step, doneEvents }) => {
        if (step === "comparing") thread.say("progress", { doneEvents });
      }),
  },
  { close: () => thread.close() },
);
