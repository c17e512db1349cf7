import { existsSync } from "node:fs";
import { join } from "node:path";
import { addedSince } from "../engine/log_tree.ts";
import type { KeptCheckpoint } from "../engine/tree.ts";
import { readVkey, type Verifier } from "../log/note.ts";
import { ledgerFindings } from "../sqlite/ledger_check.ts";
import { SqliteLogRows } from "../sqlite/log_rows.ts";
import { TreeFile } from "../sqlite/tree_store.ts";
import { AllEvents } from "./all_events.ts";
import { type Finding, inOrder } from "./finding.ts";
import { checkLog, type LogReport } from "./log_check.ts";
import type { StateReport } from "./state_check.ts";

export interface VerifyParts {
  readonly data: string;
  /** Where archived events are looked for first. */
  readonly archive: string | null;
  /** Whose signatures count; null: those of the key that the tree names. */
  readonly trusted: Verifier | null;
  /** A checkpoint that was kept elsewhere. */
  readonly kept: KeptCheckpoint | null;
  /** Checks the state, here or in another process; told of the events that it has folded. */
  readonly checkState: (data: string, progress: (seq: number) => void) => Promise<StateReport>;
  readonly progress: (events: number, total: number) => void;
}

export interface Verified {
  readonly findings: readonly Finding[];
  readonly log: LogReport;
  readonly lastSeq: number;
  /** Events that the tree vouches for; null: there is no tree. */
  readonly treeSize: number | null;
  readonly vkey: string | null;
  /** Events up to this one are archived, and why they could not be read; null: they could. */
  readonly archived: { readonly through: number; readonly unread: string | null };
  readonly state: StateReport;
}

/** Checks all that a data directory has, whether its service runs or not. Throws where it has no log. */
export async function verify(parts: VerifyParts): Promise<Verified> {
  const { data, progress } = parts;
  const log = new SqliteLogRows(join(data, "events.sqlite"), true);
  const treeFile = join(data, "tree.sqlite");
  const tree = existsSync(treeFile) ? new TreeFile(treeFile) : null;
  // The tree first: it does not run ahead of a log that is read after it.
  const treeSize = tree?.size ?? null;
  const closedAt = tree?.closedAt ?? null;
  const lastSeq = log.lastSeq();
  const done = { log: 0, state: 0 };
  const told = (): void => progress(Math.min(done.log, done.state), lastSeq);
  const state = parts
    .checkState(data, (seq) => {
      done.state = seq;
      told();
    })
    .then((report) => {
      done.state = lastSeq;
      return report;
    });
  const events = new AllEvents(data, log, parts.archive);
  const verifier = parts.trusted ?? readVkey(tree?.identity?.vkey ?? "");
  const findings = [...ledgerFindings(join(data, "events.sqlite")), ...identityFindings(log, tree, verifier)];
  const added = addedSince(closedAt, lastSeq);
  if (added !== null) findings.push({ seq: (closedAt as number) + 1, text: added });
  const logReport = await checkLog({
    log: events,
    lastSeq,
    goneThrough: events.goneThrough,
    look: (row) => events.look(row),
    lookTile: (level, index, hashes) => events.lookTile(level, index, hashes),
    tree: {
      size: treeSize ?? 0,
      tile: (level, index) => tree?.tile(level, index),
      checkpoints: () => checkpoints(tree, parts.kept),
    },
    verifier,
    progress(events) {
      done.log = events;
      told();
    },
  });
  done.log = lastSeq;
  if (logReport.findings.length === 0) findings.push(...events.findings());
  const stateFound = await state;
  tree?.close();
  log.close();
  return {
    findings: inOrder([...findings, ...logReport.findings, ...stateFound.findings]),
    log: logReport,
    lastSeq,
    treeSize,
    vkey: verifier?.vkey ?? null,
    archived: { through: events.archivedThrough, unread: events.unread },
    state: stateFound,
  };
}

/** Those that the tree has, and the one that was kept elsewhere, in order. */
function* checkpoints(tree: TreeFile | null, kept: KeptCheckpoint | null): Iterable<KeptCheckpoint> {
  let left = kept;
  for (const one of tree?.checkpoints() ?? []) {
    if (left !== null && left.size <= one.size) {
      yield left;
      left = null;
    }
    yield one;
  }
  if (left !== null) yield left;
}

function identityFindings(log: SqliteLogRows, tree: TreeFile | null, verifier: Verifier | null): Finding[] {
  const identity = tree?.identity ?? null;
  if (identity === null) return [];
  const wrong: Finding[] = [];
  const { log: id, possibleCpus } = identity;
  if (id !== log.id) wrong.push({ seq: null, text: `the tree is of the log ${id}, this log is ${log.id}` });
  if (possibleCpus !== log.possibleCpus)
    wrong.push({
      seq: null,
      text: `the log was for ${possibleCpus} possible CPUs, now it says ${log.possibleCpus}`,
    });
  if (verifier === null) wrong.push({ seq: null, text: `the tree's key "${identity.vkey}" is none` });
  return wrong;
}
