/** A job's thread: writes the archive, beside the engine and not in its way. The event and the deletion are the engine's. */
import { parentPort, workerData } from "node:worker_threads";
import { runArchive } from "../data/archive_job.ts";
import type { ArchiveData, FromArchive } from "../data/archiver.ts";
import { type ArchivePlan, ArchiveRefused } from "../engine/archives.ts";

const port = parentPort;
if (port === null) throw new Error("threads/archive.ts is a job's thread: POST /v1/archive starts it");
const say = (message: FromArchive): void => port.postMessage(message);
const { job, treeSize } = workerData as ArchiveData;

try {
  const planned = (plan: ArchivePlan): void => say({ kind: "planned", plan });
  const attr = await runArchive(job, { treeSize, planned }, ({ step, doneEvents }) => {
    if (step === "comparing") say({ kind: "progress", doneEvents });
  });
  say({ kind: "prepared", attr });
} catch (error) {
  if (error instanceof ArchiveRefused) say({ kind: "refused", why: error.why, detail: error.message });
  else say({ kind: "failed", error: (error as Error).message });
}
