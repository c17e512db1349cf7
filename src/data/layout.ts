/**
 * A data directory: the name of every file and folder that mapledger makes in it. Derived ones are built from the log
 * again if they are missing, damaged or of another format. All others are evidence, or were given to somebody, or note
 * what mapledger has made on this machine; `backup/contents.ts` says which of them a backup has.
 *
 * mapledger does not follow symbolic links here, and does not open a FIFO: `entries.ts` checks a directory against this
 * table.
 */

import { join, resolve } from "node:path";

/** The log: events, and facts of the ledger. */
export const LOG_FILE = "events.sqlite";
/** The Merkle tree over the log, and its signed checkpoints. */
export const TREE_FILE = "tree.sqlite";
/** The newest checkpoint, as a signed note. */
export const CHECKPOINT_FILE = "checkpoint";
/** The private key that signs checkpoints, as PKCS #8 in PEM. */
export const KEY_FILE = "log.key";
/** The key that is to sign next, while `mapledger key rotate` is under way. */
export const NEXT_KEY_FILE = "log.key.next";
/** Segments and snapshots of archived events, if no other folder is set. */
export const ARCHIVE_FOLDER = "archive";
/** The index, by which queries find events, in sorted runs. */
export const INDEX_FOLDER = "index";
/** An index of a former form: a start removes it. */
export const FORMER_INDEX_FILE = "index.sqlite";
/** The state: all cells right after the last event that it includes; LMDB. */
export const STATE_FOLDER = "state";
/** All versions of cells, in sorted runs. */
export const HISTORY_FOLDER = "history";
/** All versions of cells from event 1 on, archived ones included, in sorted runs. */
export const WHOLE_FOLDER = "whole";
/** The senders of archived commands, beside `whole`. */
export const SENDERS_FILE = "whole.sqlite";
/** Segments of an archive that are unpacked. */
export const UNPACKED_FOLDER = "unpacked";
/** The folder in which an archive job makes its snapshot. */
export const ARCHIVING_FOLDER = "archiving";
/** Cgroups that mapledger has made on this machine, a file each. */
export const CGROUPS_FOLDER = "cgroups";
/** Held by the process that uses the directory. */
export const LOCK_FILE = "lock.sqlite";
/** Disk space for a start on a full disk. */
export const RESERVE_FILE = "reserve";
/** The owner's token for TCP. */
export const TOKEN_FILE = "token";
/** The unix socket, if no other path is set. */
export const SOCKET_FILE = "mapledger.sock";

/** `database`: SQLite, with its -wal, -shm and -journal. `store`: a folder of LMDB. `runs`: a folder of sorted runs. */
type Kind = "database" | "store" | "runs" | "folder" | "file" | "socket";

interface Row {
  readonly is: Kind;
  /** Made again from the log. */
  readonly derived: boolean;
}

export const LAYOUT = {
  [LOG_FILE]: { is: "database", derived: false },
  [TREE_FILE]: { is: "database", derived: false },
  [CHECKPOINT_FILE]: { is: "file", derived: false },
  [KEY_FILE]: { is: "file", derived: false },
  [NEXT_KEY_FILE]: { is: "file", derived: false },
  [ARCHIVE_FOLDER]: { is: "folder", derived: false },
  [INDEX_FOLDER]: { is: "runs", derived: true },
  [FORMER_INDEX_FILE]: { is: "database", derived: true },
  [STATE_FOLDER]: { is: "store", derived: true },
  [HISTORY_FOLDER]: { is: "runs", derived: true },
  [WHOLE_FOLDER]: { is: "runs", derived: true },
  [SENDERS_FILE]: { is: "database", derived: true },
  [UNPACKED_FOLDER]: { is: "folder", derived: true },
  [ARCHIVING_FOLDER]: { is: "folder", derived: true },
  [CGROUPS_FOLDER]: { is: "folder", derived: false },
  [LOCK_FILE]: { is: "database", derived: true },
  [RESERVE_FILE]: { is: "file", derived: true },
  [TOKEN_FILE]: { is: "file", derived: false },
  [SOCKET_FILE]: { is: "socket", derived: true },
} as const satisfies Record<string, Row>;

/** The absolute path of an archive's folder. `directory`: as configured; "": archive/ in the data directory. */
export function archiveFolder({ data, directory }: { readonly data: string; readonly directory: string }): string {
  return resolve(directory === "" ? join(data, ARCHIVE_FOLDER) : directory);
}

/** Names of the rows of these kinds. */
export function namesOf(...kinds: readonly Kind[]): readonly string[] {
  return Object.entries(LAYOUT).flatMap(([name, { is }]) => (kinds.includes(is) ? [name] : []));
}
