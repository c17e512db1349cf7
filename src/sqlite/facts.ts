import { CMD } from "../abi/service.ts";
import type {
  Action,
  ArchiveCommand,
  BackupRestoreCommand,
  CheckpointCommand,
  KeyRotateCommand,
  TreeBeginCommand,
} from "../syscall/command.ts";
import { publicKeyOf } from "../tlog/note.ts";
import { ARCHIVED, ARCHIVED_ENTRIES, archivedFact } from "./archive_facts.ts";

/** Made with the log, for good: which log it is, and for how many CPUs per-CPU values are. */
export const LOG_ID = "id";
export const POSSIBLE_CPUS = "possible_cpus";
/** The ledger's fact that tells ledgers of one log apart: what follows one of them must not be taken for another's. */
export const LIFE = "life";
/** The note of the last checkpoint that a CHECKPOINT event tells of; "" if the tree was begun anew and does not continue it. */
export const CHECKPOINT = "checkpoint";
/** Set behind the log's name in its checkpoints. */
export const BRANCH = "branch";
/** The public key, as a verifier key ends, that signs by the last KEY_ROTATE event; "" if any that lies there may. */
export const SIGNING_KEY = "key";

/** All that a ledger may have. */
export const FACTS: ReadonlySet<string> = new Set([
  LOG_ID,
  POSSIBLE_CPUS,
  LIFE,
  CHECKPOINT,
  BRANCH,
  SIGNING_KEY,
  ARCHIVED,
  ARCHIVED_ENTRIES,
]);

type Fact = readonly [name: string, value: string];

const NONE: readonly Fact[] = [];

/** Facts of the ledger that a command sets: they are written with its event, in one transaction. */
export function factsOf(command: Action): readonly Fact[] {
  if (!("attr" in command)) return NONE;
  switch (command.cmd) {
    case CMD.ARCHIVE:
      return [[ARCHIVED, archivedFact((command as ArchiveCommand).attr)]];
    case CMD.CHECKPOINT:
      return [[CHECKPOINT, (command as CheckpointCommand).attr.note]];
    case CMD.TREE_BEGIN: {
      const { continues, signed, branch } = (command as TreeBeginCommand).attr;
      return [
        [CHECKPOINT, continues ? (signed ?? "") : ""],
        [BRANCH, branch],
        [SIGNING_KEY, ""],
      ];
    }
    case CMD.KEY_ROTATE:
      return [[SIGNING_KEY, publicKeyOf((command as KeyRotateCommand).attr.vkey)]];
    case CMD.BACKUP_RESTORE: {
      const { life, branch } = (command as BackupRestoreCommand).attr;
      return [
        [LIFE, life],
        [BRANCH, branch],
      ];
    }
    default:
      return NONE;
  }
}
