/**
 * Compares the history (history/, the versions of cells) with one that is built anew from the events. The versions are
 * compared, not the stored cells, because their layout depends on when they were written.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { restoreArchived } from "../archive/restore.ts";
import { HISTORY_FOLDER, LOG_FILE } from "../data/layout.ts";
import type { StateStore } from "../engine/ports.ts";
import { readHost } from "../host.ts";
import { LAYOUT } from "../lmdb/marker.ts";
import type { Cell } from "../maps/cells.ts";
import { History } from "../past/history.ts";
import { VERSION_FILTER, versionIn, versionsOf } from "../past/versions.ts";
import { VersionsStore } from "../past/versions_store.ts";
import { RunsReader } from "../runs/reader.ts";
import { RunsStore } from "../runs/store.ts";
import { SqlitePastLog } from "../sqlite/past_log.ts";
import { archiveFolders, type Places } from "./archived_state.ts";
import type { Finding } from "./finding.ts";

const ALL = ["\x01", "\xff".repeat(8)] as const;

/**
 * Builds the history of a data directory anew and compares. Without a finding, an answer to `?at=` is the one that the
 * events give.
 */
export async function checkHistory(places: Places): Promise<Finding[]> {
  const { data } = places;
  const folder = join(data, HISTORY_FOLDER);
  const log = new SqlitePastLog(join(data, LOG_FILE));
  const scratch = mkdtempSync(join(tmpdir(), "mapledger-verify-"));
  const store = new RunsStore(join(scratch, HISTORY_FOLDER), log.id, { filtered: VERSION_FILTER });
  let file: RunsReader | null = null;
  try {
    file = RunsReader.open(folder, VERSION_FILTER);
    const { through } = log.archived;
    // A history that is of another log, ahead of the log, or behind the archived events is not compared: the service
    // discards it at its next start.
    if (file === null || file.log !== log.id || file.seq > log.lastSeq || file.seq < through) return [];
    const found = await compare({ file, log, store, places });
    return found === null ? [] : [found];
  } catch (error) {
    return [{ seq: null, text: `the history cannot be compared: ${(error as Error).message}` }];
  } finally {
    file?.close();
    await store.close();
    log.close();
    rmSync(scratch, { recursive: true });
  }
}

interface Compared {
  readonly file: RunsReader;
  readonly log: SqlitePastLog;
  readonly store: RunsStore;
  readonly places: Places;
}

/**
 * The two histories may store a version in different layouts, which depend on when it was written. So their contents
 * are compared: each version of one must be a version of the other.
 */
async function compare({ file, log, store, places }: Compared): Promise<Finding | null> {
  const host = { ...readHost(), possibleCpus: log.possibleCpus };
  const { archived } = log;
  const { through } = archived;
  if (through > 0) {
    const folders = archiveFolders(places, archived);
    await restoreArchived(new VersionsStore(store, through), { archived, log: log.id, folders, host, layout: LAYOUT });
  }
  const history = new History(log, store, host);
  await history.reach(file.seq);
  return (
    firstUnlike(file.cells, store, { after: through, until: file.seq }, "has a value that no event gave") ??
    firstUnlike(
      store,
      file.cells,
      { after: through - 1, until: file.seq },
      "lacks a value that an event gave, or has another",
    )
  );
}

type Versions = Pick<StateStore, "range">;

/**
 * The first version of `one`, from after `after` to `until`, that differs from the other's version of the same cell and
 * seq.
 */
function firstUnlike(
  one: Versions,
  other: Versions,
  { after, until }: { readonly after: number; readonly until: number },
  text: string,
): Finding | null {
  for (const cell of one.range(...ALL) as Iterable<Cell>) {
    const version = versionIn(cell);
    if (version === null || version.seq <= after || version.seq > until) continue;
    const { value: same } = versionsOf(other, version.cell, version.seq)[Symbol.iterator]().next();
    if (same !== undefined && bytesOf(same.bytes).equals(bytesOf(version.bytes))) continue;
    return { seq: version.seq, text: `the history ${text}` };
  }
  return null;
}

/** Encodes a deleted cell and an empty one differently. */
function bytesOf(bytes: Buffer | null): Buffer {
  return bytes === null ? Buffer.from("gone") : Buffer.concat([Buffer.from([0]), bytes]);
}
