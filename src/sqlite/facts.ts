/**
 * Facts of the ledger: single values beside the events. Each is set when the log is made, or by a command, in one
 * transaction with its event.
 */

import { CMD } from "../abi/service.ts";
import type { Action } from "../syscall/command.ts";
import { publicKeyOf } from "../tlog/note.ts";
import { ARCHIVED, ARCHIVED_ENTRIES, archivedFact } from "./archive_facts.ts";

/** Set when the log is made, and never changed: its id, and the number of CPUs that per-CPU values have room for. */
export const LOG_ID = "id";
export const POSSIBLE_CPUS = "possible_cpus";
/** Distinguishes ledgers that have the same log, because one was restored from another's backup. */
export const LIFE = "life";
/** The note of the last checkpoint that an event records; "" after a TREE_BEGIN whose tree does not continue it. */
export const CHECKPOINT = "checkpoint";
/** The suffix of the log's name in its checkpoints. */
export const BRANCH = "branch";
/**
 * The public key, as at the end of a verifier key, that the last KEY_ROTATE event names; "" if no key is prescribed.
 */
export const SIGNING_KEY = "key";

/** All facts that a ledger may have. */
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

/** The facts that a command sets. */
export function factsOf(command: Action): readonly Fact[] {
  switch (command.cmd) {
    case CMD.ARCHIVE:
      return [[ARCHIVED, archivedFact(command.attr)]];
    case CMD.CHECKPOINT:
      return [[CHECKPOINT, command.attr.note]];
    case CMD.TREE_BEGIN: {
      const { continues, signed, branch } = command.attr;
      return [
        [CHECKPOINT, continues ? (signed ?? "") : ""],
        [BRANCH, branch],
        [SIGNING_KEY, ""],
      ];
    }
    case CMD.KEY_ROTATE:
      return [[SIGNING_KEY, publicKeyOf(command.attr.vkey)]];
    case CMD.BACKUP_RESTORE: {
      const { life, branch } = command.attr;
      return [
        [LIFE, life],
        [BRANCH, branch],
      ];
    }
    default:
      return NONE;
  }
}
