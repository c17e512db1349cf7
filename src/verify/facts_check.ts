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

/** Commands that set facts of the ledger. */
type FactCommand = ArchiveCommand | CheckpointCommand | TreeBeginCommand | BackupRestoreCommand | KeyRotateCommand;
type Attr = FactCommand["attr"];

const ERRNO_COLUMN = 11;

/** What is set by events alone: where none was read that sets it, there is no such fact. */
const SET_BY_EVENTS = [ARCHIVED, CHECKPOINT, BRANCH, SIGNING_KEY];

/** What a log's events say of the ledger's facts, and of what belongs to it, against what there is. */
export class FactsCheck {
  readonly #facts: ReadonlyMap<string, string>;
  /** What the last events that tell of a fact say. */
  readonly #said = new Map<string, string>();
  readonly #wrong: Finding[] = [];
  /** Verifier keys that events name as those of before. */
  readonly signers = new Set<string>();
  /** SHA-256 in hex of an archive's files, by their names. */
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

  /** `areAllRead`: without the archive nobody knows what its events said. */
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

  /** A checkpoint's event has what the ledger was then; its log and its CPUs were never others. */
  #lookAtLedger(seq: number, { log, possible_cpus: cpus, life }: CheckpointCommand["attr"]): void {
    const [id, now] = [this.#fact(LOG_ID), this.#fact(POSSIBLE_CPUS)];
    if (log !== id) this.#wrong.push({ seq, text: `it is of the log ${log}, this log is ${id}` });
    if (cpus !== now) this.#wrong.push({ seq, text: `the log was for ${cpus} possible CPUs, now it says ${now}` });
    // Events of before there was such a field do not tell.
    if (life !== undefined) this.#lookAtLife(seq, life);
  }

  /** A ledger's life ends with a BACKUP_RESTORE event alone. */
  #lookAtLife(seq: number, life: string): void {
    const said = this.#said.get(LIFE) ?? life;
    if (said !== life)
      this.#wrong.push({ seq, text: `it is of the ledger's life ${life}, events before it are of ${said}` });
    this.#said.set(LIFE, life);
  }

  #lookAtArchive({ segments, state }: ArchiveCommand["attr"]): void {
    for (const { name, sha256 } of [...segments, state]) this.archiveFiles.set(name, sha256);
  }
}

function factText(name: string): string {
  return `the ledger's fact "${name}" is not what the log's events say`;
}

function archivedText(fact: string, said: string): string {
  const [now, then] = [throughIn(fact), readArchived(said).through];
  if (now === null || now === then) return factText(ARCHIVED);
  return `the ledger says that events up to ${now} are archived, the log says: up to ${then}`;
}

function throughIn(fact: string): number | null {
  try {
    return readArchived(fact).through;
  } catch {
    return null;
  }
}
