import type { Archived } from "../engine/archives.ts";
import type { ArchiveCommand } from "../syscall/command.ts";

/** The ledger's fact of what is archived: written with the ARCHIVE event, in one transaction. */
export const ARCHIVED = "archived";

export function archivedFact({ through, time_us, directory, state }: ArchiveCommand["attr"]): string {
  return JSON.stringify({ through, timeUs: time_us, directory, state: state.sha256 } satisfies Archived);
}

/** undefined, or "": there is no such fact yet. */
export function readArchived(fact: string | undefined): Archived {
  return fact === undefined || fact === "" ? NONE : (JSON.parse(fact) as Archived);
}

const NONE: Archived = { through: 0, timeUs: 0, directory: "", state: "" };
