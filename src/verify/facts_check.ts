/**
 * Compares the ledger's facts that events set (`sqlite/facts.ts`) with the events. CHECKPOINT events repeat the log's
 * id, `possible_cpus` and `life`, so that the tree covers these facts, too.
 */

import { CMD } from "../abi/service.ts";
import type { RowBytes } from "../log/canonical.ts";
import { ARCHIVED, readArchived } from "../sqlite/archive_facts.ts";
import { BRANCH, CHECKPOINT, factsOf, LIFE, LOG_ID, POSSIBLE_CPUS, SIGNING_KEY } from "../sqlite/facts.ts";
import type {
  ArchiveCommand,
  BackupRestoreCommand,
  CheckpointCommand,
  KeyRotateCommand,
  TreeBeginCommand,
} from "../syscall/command.ts";
import { commandFacts } from "../syscall/command_facts.ts";
import type { Finding } from "./finding.ts";
import { attrOf, CMD_COLUMN } from "./row_attr.ts";

/** Commands whose events set facts of the ledger. */
type FactCommand = ArchiveCommand | CheckpointCommand | TreeBeginCommand | BackupRestoreCommand | KeyRotateCommand;
type Attr = FactCommand["attr"];

const ERRNO_COLUMN = 11;

/** Facts that only events set: without such an event the ledger must not have the fact. */
const SET_BY_EVENTS = [ARCHIVED, CHECKPOINT, BRANCH, SIGNING_KEY];

/**
 * Compares the ledger's facts with the values that the log's events set, and collects the files and former keys that
 * events name.
 */
export class FactsCheck {
  readonly #facts: ReadonlyMap<string, string>;
  /** The facts, by name, as the events read so far have set them. */
  readonly #said = new Map<string, string>();
  readonly #wrong: Finding[] = [];
  /** Verifier keys of former signers that events name. */
  readonly signers = new Set<string>();
  /** SHA-256 in hex of the archive's files that ARCHIVE events name, by file name. */
  readonly archiveFiles = new Map<string, string>();

  constructor(facts: ReadonlyMap<string, string>) {
    this.#facts = facts;
  }

  look(row: RowBytes): void {
    const cmd = row[CMD_COLUMN];
    if (commandFacts(Number(cmd))?.setsFact !== true || row[ERRNO_COLUMN] !== 0) return;
    const said = attrOf(row) as Attr | null;
    if (said === null) return;
    const seq = Number(row[0]);
    if (cmd === CMD.CHECKPOINT) this.#lookAtLedger(seq, said as CheckpointCommand["attr"]);
    if (cmd === CMD.BACKUP_RESTORE) this.#lookAtLife(seq, (said as BackupRestoreCommand["attr"]).was);
    if (cmd === CMD.ARCHIVE) this.#lookAtArchive(said as ArchiveCommand["attr"]);
    for (const [name, value] of factsOf({ cmd, attr: said } as FactCommand)) this.#said.set(name, value);
    if ("signer" in said && said.signer !== null) this.signers.add(said.signer);
  }

  /**
   * `areAllRead`: whether archived events were read, too. If not, only facts that the read events set are compared, and
   * ARCHIVED.
   */
  findings(areAllRead: boolean): Finding[] {
    const named = new Set([...(areAllRead ? SET_BY_EVENTS : [ARCHIVED]), ...this.#said.keys()]);
    const wrong = [...named].flatMap((name): Finding[] => {
      const said = this.#said.get(name) ?? "";
      const fact = this.#fact(name);
      if (said === fact) return [];
      return [{ seq: null, text: name === ARCHIVED ? archivedText(fact, said) : factText(name) }];
    });
    return [...wrong, ...this.#wrong];
  }

  #fact(name: string): string {
    return this.#facts.get(name) ?? "";
  }

  /** A CHECKPOINT event has the ledger's log id, CPU count and life at that time. Id and CPU count never change. */
  #lookAtLedger(seq: number, { log, possible_cpus: cpus, life }: CheckpointCommand["attr"]): void {
    const [id, now] = [this.#fact(LOG_ID), this.#fact(POSSIBLE_CPUS)];
    if (log !== id) this.#wrong.push({ seq, text: `its log is ${log}, this log is ${id}` });
    if (cpus !== now) this.#wrong.push({ seq, text: `the log was for ${cpus} possible CPUs, now it says ${now}` });
    // Events of earlier releases do not have this field.
    if (life !== undefined) this.#lookAtLife(seq, life);
  }

  /** Only a BACKUP_RESTORE event may start a new life. */
  #lookAtLife(seq: number, life: string): void {
    const said = this.#said.get(LIFE) ?? life;
    if (said !== life) this.#wrong.push({ seq, text: `its ledger life is ${life}, that of earlier events is ${said}` });
    this.#said.set(LIFE, life);
  }

  #lookAtArchive({ segments, state }: ArchiveCommand["attr"]): void {
    for (const { name, sha256 } of [...segments, state]) this.archiveFiles.set(name, sha256);
  }
}

function factText(name: string): string {
  return `the ledger's fact "${name}" differs from the log's events`;
}

function archivedText(fact: string, said: string): string {
  const [now, then] = [throughIn(fact), readArchived(said).through];
  if (now === null || now === then) return factText(ARCHIVED);
  return `the ledger says that events up to ${now} are archived, the log's events say up to ${then}`;
}

function throughIn(fact: string): number | null {
  try {
    return readArchived(fact).through;
  } catch {
    return null;
  }
}
