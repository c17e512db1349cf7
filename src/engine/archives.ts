/**
 * Archived events, for the engine and for readers of the log: the fact that says which they are, the plan and the
 * status of an archive job, and the errors that readers and jobs get.
 */

import type { Moment } from "../codec/moments.ts";
import type { EventRow } from "../log/event.ts";
import { crossing } from "../supervisor/protocol.ts";
import type { ArchiveCommand, Who } from "../syscall/command.ts";

/** The log's fact about its archived events. Events up to `through` are read from the archive, not from the log. */
export interface Archived {
  /** The last archived event, and its time; 0: none is archived. */
  readonly through: number;
  readonly timeUs: number;
  /** The folder of the last archive job, and the SHA-256 of its snapshot of the state right after `through`. */
  readonly directory: string;
  readonly state: string;
}

/** A log's data directory, and the folder of its archive. */
export interface ArchivedPlaces {
  readonly data: string;
  /** The setting MAPLEDGER_ARCHIVE; "": archive/ in the data directory. */
  readonly archive: string;
  /**
   * Whether somebody else has made the data directory. Its log may then name any folder as its archive, so that folder
   * is not read.
   */
  readonly foreign: boolean;
}

/** An event or a moment that was asked for is archived. */
export class EventsArchived extends Error {
  readonly oldestSeq: number;

  constructor(oldestSeq: number) {
    super(`events up to ${oldestSeq - 1} are archived`);
    this.name = "EventsArchived";
    this.oldestSeq = oldestSeq;
  }
}

export const EVENTS_ARCHIVED = crossing(EventsArchived, ({ oldestSeq }): [number] => [oldestSeq]);

/**
 * Throws EventsArchived if a range begins or ends at an archived event. A range whose `afterSeq` is 0 begins at event 1
 * only if it is `whole`; otherwise it begins at the oldest event that is left.
 */
export function checkKept(
  archivedThrough: number,
  range: { readonly afterSeq: number; readonly beforeSeq?: number; readonly whole?: true },
): void {
  const { afterSeq, beforeSeq = Number.POSITIVE_INFINITY, whole = false } = range;
  const begins = (afterSeq === 0 && !whole) || afterSeq >= archivedThrough;
  if (!begins || (archivedThrough > 0 && beforeSeq <= archivedThrough + 1))
    throw new EventsArchived(archivedThrough + 1);
}

/** The log as an archive job reads it, while the engine writes it. */
export interface ArchiveSource {
  readonly id: string;
  readonly lastSeq: number;
  readonly archived: Archived;
  /** The last event before a moment; `archived.through` if all events before it are archived. */
  seqBefore(timeUs: number): number;
  /** Events `afterSeq` + 1 to `throughSeq`, none of them archived; flags are exact. */
  rows(afterSeq: number, throughSeq: number): Iterable<EventRow>;
}

/** The reason why events cannot be archived. */
export class ArchiveRefused extends Error {
  readonly why:
    | "nothing to archive"
    | "beyond the log"
    | "beyond the tree"
    | "not this log's archive"
    | "another job is running"
    | "the machine has failed";

  constructor(why: ArchiveRefused["why"], detail: string) {
    super(detail);
    this.name = "ArchiveRefused";
    this.why = why;
  }
}

export const ARCHIVE_REFUSED = crossing(ArchiveRefused, ({ why, message }): [ArchiveRefused["why"], string] => [
  why,
  message,
]);

/** Which events are to be archived. */
export interface ArchivePlan {
  readonly first: number;
  readonly through: number;
}

/**
 * The events before a moment that are not archived yet. `treeSize`: the number of events in the log's tree. Throws
 * ArchiveRefused.
 */
export function planArchive(source: ArchiveSource, before: Moment, treeSize: number): ArchivePlan {
  const { lastSeq, archived } = source;
  if ("seq" in before && before.seq > lastSeq + 1)
    throw new ArchiveRefused(
      "beyond the log",
      `the log ends at event ${lastSeq}: there is none before ${before.seq} yet`,
    );
  const through = "seq" in before ? before.seq - 1 : source.seqBefore(before.timeUs);
  if (through <= archived.through)
    throw new ArchiveRefused("nothing to archive", `nothing to archive: the oldest event is ${archived.through + 1}`);
  if (through > treeSize)
    throw new ArchiveRefused("beyond the tree", `the log's tree has only ${treeSize} of the ${through} events yet`);
  return { first: archived.through + 1, through };
}

export type ArchiveAttr = ArchiveCommand["attr"];

/** The progress of a job of the service. */
export interface ArchiveJobStatus extends ArchivePlan {
  readonly state: "running" | "done" | "failed";
  readonly before: string;
  readonly caller: string;
  readonly directory: string;
  readonly doneEvents: number;
  /** The ARCHIVE event; null: the job is not done. */
  readonly seq: number | null;
  /** The reason why the job failed. */
  readonly error: string | null;
}

/** Archives events while the service runs: one job at a time. */
export interface Archiver {
  /** The absolute path of the archive's folder. */
  readonly directory: string;
  /** The last job; null: none since the start. */
  readonly job: ArchiveJobStatus | null;
  /** Begins a job. Resolves once it is known which events it archives. Rejects with InvalidInput or ArchiveRefused. */
  begin(before: string, who: Who): Promise<ArchiveJobStatus>;
}
