/**
 * The thread of an archive job. It writes the archive beside the engine, without delaying it. The engine appends the
 * job's event and removes the archived rows.
 */

import { runArchive } from "../data/archive_job.ts";
import { ARCHIVE_JOB } from "../data/archive_protocol.ts";
import { ArchiveRefused } from "../engine/archives.ts";
import { faultBesideLog } from "../supervisor/derived_parts.ts";
import { thisThread } from "../supervisor/thread.ts";

const thread = thisThread(ARCHIVE_JOB);
const { job, treeSize } = thread.data;

thread.serve(
  {
    archive: () =>
      runArchive(job, { treeSize, planned: (plan) => thread.say("planned", { plan }) }, ({ step, doneEvents }) => {
        if (step === "comparing") thread.say("progress", { doneEvents });
      }).catch((error) => {
        const found = faultBesideLog(error);
        if (found !== "failed" && found !== "full") throw error;
        throw new ArchiveRefused("the machine has failed", `archiving: ${error.message}`);
      }),
  },
  { close: () => thread.close() },
);
