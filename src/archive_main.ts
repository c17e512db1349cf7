import { parentPort, workerData } from "node:worker_threads";
import { type ArchiveJob, runArchive } from "./archiving.ts";
import { type ArchiveAttr, type ArchivePlan, ArchiveRefused } from "./engine/archives.ts";

/** A job's thread: writes the archive, beside the engine and not in its way. The event and the deletion are the engine's. */
export interface ArchiveData {
  readonly job: ArchiveJob;
  readonly treeSize: number;
}

/** What it says, in this order; one of the last three is its end. */
export type FromArchive =
  | { readonly kind: "planned"; readonly plan: ArchivePlan }
  | { readonly kind: "progress"; readonly doneEvents: number }
  | { readonly kind: "prepared"; readonly attr: ArchiveAttr }
  | { readonly kind: "refused"; readonly why: ArchiveRefused["why"]; readonly detail: string }
  | { readonly kind: "failed"; readonly error: string };

const port = parentPort;
if (port === null) throw new Error("archive_main.ts is a job's thread: POST /v1/archive starts it");
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
