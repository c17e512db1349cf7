/**
 * Checks a whole data directory: the databases' schemas, the log against tree and checkpoints, the archive, the index,
 * the history, the state and the files beside them. It consists of three processes: this one hashes the log
 * (`log_check.ts`); another folds it and compares LMDB with the fold (`state_check.ts`), and may die of a damaged
 * LMDB, which is a finding then; the third builds the history (`history_check.ts`).
 *
 * Schemas are compared with those of fresh databases (`sqlite/schema_check.ts`). Index and history are built anew
 * beside the data directory and compared (`index_check.ts`, `history_check.ts`).
 */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { checkData } from "../data/entries.ts";
import { INDEX_FOLDER, LOG_FILE, TREE_FILE } from "../data/layout.ts";
import { logFault, tablesFault } from "../data/version.ts";
import { DATABASES } from "../sqlite/databases.ts";
import { SIGNING_KEY } from "../sqlite/facts.ts";
import { ledgerFindings } from "../sqlite/ledger_check.ts";
import { SqliteLogRows } from "../sqlite/log_rows.ts";
import { schemaFindings } from "../sqlite/schema_check.ts";
import { TreeFile } from "../sqlite/tree_store.ts";
import { readVkey, type Verifier } from "../tlog/note.ts";
import { addedSince, signerOfSize } from "../tree/log_tree.ts";
import type { FormerSigner } from "../tree/ports.ts";
import { AllEvents } from "./all_events.ts";
import type { Places } from "./archived_state.ts";
import type { DerivedChecks } from "./derived_process.ts";
import { fileFindings, readPublishedNote } from "./files_check.ts";
import { type Finding, inOrder } from "./finding.ts";
import { checkIndex } from "./index_check.ts";
import { checkLog, type LogReport, type Signed } from "./log_check.ts";
import type { StateReport } from "./state_check.ts";

export interface VerifyParts extends Places {
  /** Keys whose signatures count; if empty, the key that the tree names counts. */
  readonly trusted: readonly Verifier[];
  /** Checkpoints that were kept elsewhere; their signatures have been verified. */
  readonly outside: readonly Signed[];
  readonly checks: DerivedChecks;
  readonly progress: (events: number, total: number) => void;
}

export interface Verified {
  readonly findings: readonly Finding[];
  readonly log: LogReport;
  readonly lastSeq: number;
  /** The number of events in the tree; null if there is no tree. */
  readonly treeSize: number | null;
  readonly vkey: string | null;
  /**
   * The last archived event, 0 if there is none, and the reason why archived events could not be read; null if they
   * could.
   */
  readonly archived: { readonly through: number; readonly unread: string | null };
  readonly state: StateReport;
}

/** Checks a data directory, whether its service runs or not. Throws if it has no log. */
export async function verify(parts: VerifyParts): Promise<Verified> {
  const { data, progress } = parts;
  checkData(data);
  const log = openLog(data);
  // A running service adds to all three, so the checkpoint is read first, then the tree, then the log: none of them may
  // be ahead of the next.
  const published = readPublishedNote(data);
  const { tree, fault } = openTree(data);
  const { size: treeSize, closedAt } = tree?.moment() ?? { size: null, closedAt: null };
  const events = new AllEvents(parts, log);
  const { lastSeq } = events;
  // The closing mark is read again after the log. A service that has started in between removed the mark before its
  // first event, which must not be reported as one from outside.
  const stillClosedAt = tree?.closedAt ?? null;
  const done = { log: 0, state: 0 };
  const told = (): void => progress(Math.min(done.log, done.state), lastSeq);
  const history = parts.checks.history(parts);
  // Awaited below: without a handler, a failure before that would be reported as an unhandled rejection.
  history.catch(() => {});
  const state = parts.checks
    .state(parts, (seq) => {
      done.state = seq;
      told();
    })
    .then((report) => {
      done.state = lastSeq;
      return report;
    });
  const own = tree?.identity?.vkey ?? "";
  const verifier = parts.trusted.find(({ vkey }) => vkey === own) ?? parts.trusted[0] ?? readVkey(own);
  const verifierOf = (size: number): Verifier | null => signerOfSize(tree?.formerSigners ?? [], size) ?? verifier;
  const findings = [
    ...databaseFindings(data),
    ...namesAndFacts(data),
    ...events.unreadable,
    ...identityFindings(log, tree, verifier),
  ];
  const ofFiles = fileFindings({ data, tree, signingKey: log.fact(SIGNING_KEY), verifierOf, published });
  const early = log.beforeFirst();
  if (early > 0) findings.push({ seq: null, text: `the log has ${early} rows with a seq below 1` });
  if (tree === null) findings.push({ seq: null, text: `${fault}: nothing vouches for the events` });
  if (events.unread !== null) findings.push({ seq: null, text: `archived events cannot be read: ${events.unread}` });
  const added = addedSince(stillClosedAt, lastSeq);
  if (closedAt !== null && closedAt !== treeSize)
    findings.push({ seq: null, text: `${TREE_FILE} was closed with ${closedAt} events, and has ${treeSize}` });
  if (added !== null) findings.push({ seq: (stillClosedAt as number) + 1, text: added });
  const logReport = await checkLog({
    log: events,
    lastSeq,
    goneThrough: events.goneThrough,
    look: (row) => events.look(row),
    lookTile: (level, index, hashes) => events.lookTile(level, index, hashes),
    tree: {
      size: treeSize ?? 0,
      tile: (level, index) => tree?.tile(level, index),
      checkpoints: () => checkpoints(tree, parts.outside),
    },
    verifierOf: (size) => verifierOf(size) as Verifier,
    progress(events) {
      done.log = events;
      told();
    },
  });
  done.log = lastSeq;
  if (logReport.findings.length === 0)
    findings.push(
      ...events.findings(),
      ...signerFindings(tree?.formerSigners ?? [], events.signers),
      ...(await indexFindings(parts)),
    );
  const stateFound = await state;
  const historyFound = await history;
  tree?.close();
  log.close();
  return {
    findings: inOrder([...findings, ...logReport.findings, ...stateFound.findings, ...historyFound, ...ofFiles]),
    log: logReport,
    lastSeq,
    treeSize,
    vkey: verifier?.vkey ?? null,
    archived: { through: events.archivedThrough, unread: events.unread },
    state: stateFound,
  };
}

/** The tree's checkpoints and those that were kept elsewhere, ascending by size. */
function* checkpoints(tree: TreeFile | null, outside: readonly Signed[]): Iterable<Signed> {
  const left = [...outside].sort((a, b) => a.size - b.size);
  for (const one of tree?.checkpoints() ?? []) {
    for (let next = left[0]; next !== undefined && next.size <= one.size; next = left[0]) {
      yield next;
      left.shift();
    }
    yield one;
  }
  yield* left;
}

function openLog(data: string): SqliteLogRows {
  const none = logFault(data);
  if (none !== null) throw new Error(`verifying ${data}: ${none}`);
  try {
    return new SqliteLogRows(join(data, LOG_FILE), true);
  } catch (error) {
    throw new Error(`verifying ${data}: ${LOG_FILE} cannot be read: ${(error as Error).message}`);
  }
}

/** The tree, or the reason why it cannot be read. */
function openTree(data: string): { readonly tree: TreeFile | null; readonly fault: string | null } {
  const file = join(data, TREE_FILE);
  if (!existsSync(file)) return { tree: null, fault: `there is no ${TREE_FILE}` };
  const none = tablesFault(file, TREE_FILE);
  if (none !== null) return { tree: null, fault: none };
  try {
    const tree = new TreeFile(file);
    tree.moment();
    return { tree, fault: null };
  } catch (error) {
    return { tree: null, fault: `${TREE_FILE} cannot be read: ${(error as Error).message}` };
  }
}

/** A former key counts only if an event names it; the present key has signed that event. */
function signerFindings(former: readonly FormerSigner[], told: ReadonlySet<string>): Finding[] {
  return former.flatMap(({ vkey, origin }): Finding[] => {
    if (!told.has(vkey))
      return [{ seq: null, text: `${TREE_FILE} names the former key ${vkey}, which no event names` }];
    return nameFindings("former key", vkey, origin);
  });
}

async function indexFindings(places: Places): Promise<Finding[]> {
  try {
    return await checkIndex(places);
  } catch (error) {
    return [{ seq: null, text: `${INDEX_FOLDER}/ cannot be compared: ${(error as Error).message}` }];
  }
}

function namesAndFacts(data: string): Finding[] {
  try {
    return ledgerFindings(join(data, LOG_FILE));
  } catch {
    // A missing table is reported with the schema's findings.
    return [];
  }
}

/** A view or a trigger that somebody added could make a sound log look different, or change it. */
function databaseFindings(data: string): Finding[] {
  return Object.entries(DATABASES).flatMap(([name, migrations]) => {
    const file = join(data, name);
    if (!existsSync(file)) return [];
    try {
      return schemaFindings(file, migrations).map((text) => ({ seq: null, text: `${name}: ${text}` }));
    } catch (error) {
      return name === TREE_FILE ? [] : [{ seq: null, text: `${name} cannot be read: ${(error as Error).message}` }];
    }
  });
}

/** The name in a verifier key must be the origin under which it signs. */
function nameFindings(what: string, vkey: string, origin: string): Finding[] {
  const name = readVkey(vkey)?.name ?? origin;
  return name === origin
    ? []
    : [{ seq: null, text: `${TREE_FILE} has the origin ${origin} for its ${what}, but that key is named ${name}` }];
}

function identityFindings(log: SqliteLogRows, tree: TreeFile | null, verifier: Verifier | null): Finding[] {
  const identity = tree?.identity ?? null;
  if (identity === null) return [];
  const wrong: Finding[] = nameFindings("key", identity.vkey, identity.origin);
  const { log: id, possibleCpus } = identity;
  if (id !== log.id) wrong.push({ seq: null, text: `the tree's log is ${id}, this log is ${log.id}` });
  if (possibleCpus !== log.possibleCpus)
    wrong.push({
      seq: null,
      text: `the log was for ${possibleCpus} possible CPUs, now it says ${log.possibleCpus}`,
    });
  if (verifier === null) wrong.push({ seq: null, text: `the tree's key "${identity.vkey}" is not a verifier key` });
  return wrong;
}
