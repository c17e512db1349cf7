import { existsSync } from "node:fs";
import { join } from "node:path";
import { addedSince, signerOfSize } from "../engine/log_tree.ts";
import type { FormerSigner } from "../engine/tree.ts";
import { readVkey, type Verifier } from "../log/note.ts";
import { ledgerFindings } from "../sqlite/ledger_check.ts";
import { SqliteLogRows } from "../sqlite/log_rows.ts";
import { schemaFindings } from "../sqlite/schema_check.ts";
import { TreeFile } from "../sqlite/tree_store.ts";
import { AllEvents } from "./all_events.ts";
import { type Finding, inOrder } from "./finding.ts";
import { checkIndex } from "./index_check.ts";
import { checkLog, type LogReport, type Signed } from "./log_check.ts";
import type { StateReport } from "./state_check.ts";

const TREE_FILE = "tree.sqlite";

/** Databases, and what makes them. */
const DATABASES = {
  "events.sqlite": new URL("../../migrations/", import.meta.url),
  [TREE_FILE]: new URL("../../migrations/tree/", import.meta.url),
  "index.sqlite": new URL("../../migrations/index/", import.meta.url),
} as const;

export interface VerifyParts {
  readonly data: string;
  /** Where archived events are looked for first. */
  readonly archive: string | null;
  /** Whose signatures count; null: those of the key that the tree names. */
  readonly trusted: Verifier | null;
  /** Checkpoints that were kept elsewhere, whose signatures are known to count. */
  readonly outside: readonly Signed[];
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
  const treeFile = join(data, TREE_FILE);
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
  const findings = [
    ...databaseFindings(data),
    ...ledgerFindings(join(data, "events.sqlite")),
    ...identityFindings(log, tree, verifier),
  ];
  if (tree === null) findings.push({ seq: null, text: `there is no ${TREE_FILE}: nothing vouches for the events` });
  if (events.unread !== null) findings.push({ seq: null, text: `archived events cannot be read: ${events.unread}` });
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
      checkpoints: () => checkpoints(tree, parts.outside),
    },
    verifierOf: (size) => signerOfSize(tree?.formerSigners ?? [], size) ?? (verifier as Verifier),
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
      ...(await indexFindings(data)),
    );
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

/** Those that the tree has, and those that were kept elsewhere, in order. */
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

/** Former keys count only if events tell of them, which the present one has signed. */
function signerFindings(former: readonly FormerSigner[], told: ReadonlySet<string>): Finding[] {
  return former
    .filter(({ vkey }) => !told.has(vkey))
    .map(({ vkey }) => ({ seq: null, text: `${TREE_FILE} names the former key ${vkey}, of which no event tells` }));
}

async function indexFindings(data: string): Promise<Finding[]> {
  try {
    return await checkIndex(data);
  } catch (error) {
    return [{ seq: null, text: `index.sqlite cannot be compared: ${(error as Error).message}` }];
  }
}

/** A view or a trigger that somebody put there would make a sound log look or become another. */
function databaseFindings(data: string): Finding[] {
  return Object.entries(DATABASES).flatMap(([name, migrations]) => {
    const file = join(data, name);
    if (!existsSync(file)) return [];
    return schemaFindings(file, migrations).map((text) => ({ seq: null, text: `${name}: ${text}` }));
  });
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
