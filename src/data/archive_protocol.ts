import { ARCHIVE_REFUSED, type ArchiveAttr, type ArchivePlan } from "../engine/archives.ts";
import { type Nothing, Protocol, type ThreadOrders } from "../supervisor/protocol.ts";
import type { ArchiveJob } from "./archive_job.ts";

/** The messages of a job's thread, which ends with its answer. */
export interface ArchiveProtocol {
  readonly data: { readonly job: ArchiveJob; readonly treeSize: number };
  /** Writes the files: the event and the deletion are the engine's. */
  readonly questions: { archive: { ask: Nothing; answer: ArchiveAttr } };
  readonly inquiries: Nothing;
  readonly orders: ThreadOrders;
  readonly news: {
    planned: { readonly plan: ArchivePlan };
    progress: { readonly doneEvents: number };
  };
}

export const ARCHIVE_JOB = new Protocol<ArchiveProtocol>({ thread: "archive", doing: "", errors: [ARCHIVE_REFUSED] });
