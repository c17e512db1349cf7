/** Archived events as the engine and the readers of the log see them. */

import type { Moment } from "../codec/moments.ts";
import type { EventRow } from "../log/event.ts";
import { crossing } from "../supervisor/protocol.ts";
import type { ArchiveCommand, Who } from "../syscall/command.ts";

/** What the log says of its archived events: they are those up to `through`, and are no longer read from it. */
export interface Archived {
  /** 0: there are none. And when it was. */
  readonly through: number;
  readonly timeUs: number;
  /** The folder that the last of them went to, and the SHA-256 of the snapshot of the state right after `through`. */
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

/** What was asked for is archived, or of a moment before the oldest event that is not. */
export class EventsArchived extends Error {
  readonly oldestSeq: number;

  constructor(oldestSeq: number) {
    super(`events up to ${oldestSeq - 1} are archived`);
    this.name = "EventsArchived";
    this.oldestSeq = oldestSeq;
  }
}

export const EVENTS_ARCHIVED = crossing(EventsArchived, ({ oldestSeq }): [number] => [oldestSeq]);

/** Throws EventsArchived where a range names an archived event to begin or to end at. 0 names none, unless the range is `whole`. */
export function checkKept(
  archivedThrough: number,
  range: { readonly afterSeq: number; readonly beforeSeq?: number; readonly whole?: true },
): void {
  const { afterSeq, beforeSeq = Number.POSITIVE_INFINITY, whole = false } = range;
  const begins = (afterSeq === 0 && !whole) || afterSeq >= archivedThrough;
  if (!begins || (archivedThrough > 0 && beforeSeq <= archivedThrough + 1))
    throw new EventsArchived(archivedThrough + 1);
}

/** The log, as those who archive it read it, beside the engine that writes it. */
export interface ArchiveSource {
  readonly id: string;
  readonly lastSeq: number;
  readonly archived: Archived;
  /** The last event that is stamped before a moment, of those that are not archived; `archived.through` where there is none. */
  seqBefore(timeUs: number): number;
  /** Events after one seq up to another, none of them archived; flags are exact. */
  rows(afterSeq: number, throughSeq: number): Iterable<EventRow>;
}

/** What has been asked for cannot be archived: why. */
export class ArchiveRefused extends Error {
  readonly why:
    | "nothing to archive"
    | "beyond the log"
    | "beyond the tree"
    | "not this log's archive"
    | "another job is running";

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

/** All events before a moment that are not archived yet; `treeSize` says which the log's tree has. Throws ArchiveRefused. */
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

/** How far a job of the service is. */
export interface ArchiveJobStatus extends ArchivePlan {
  readonly state: "running" | "done" | "failed";
  readonly before: string;
  readonly caller: string;
  readonly directory: string;
  readonly doneEvents: number;
  /** The ARCHIVE event, when it is done. */
  readonly seq: number | null;
  /** Why it has failed. */
  readonly error: string | null;
}

/** Archives events while the service runs: one job at a time. */
export interface Archiver {
  /** Where it archives to, absolute. */
  readonly directory: string;
  /** The last job; null: none since the start. */
  readonly job: ArchiveJobStatus | null;
  /** Begins one, when it is known which events it is about. Rejects with InvalidInput or ArchiveRefused. */
  begin(before: string, who: Who): Promise<ArchiveJobStatus>;
}
