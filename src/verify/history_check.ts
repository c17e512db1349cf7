/**
 * Compares the history (history/, the versions of cells) with one that is built anew from the events. The versions are
 * compared, not the stored cells, because their layout depends on when they were written.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { restoreArchived } from "../archive/restore.ts";
import { HISTORY_FOLDER, LOG_FILE } from "../data/layout.ts";
import { readHost } from "../host.ts";
import { LAYOUT } from "../lmdb/marker.ts";
import { compareKeys } from "../maps/cells.ts";
import { History } from "../past/history.ts";
import { allVersions, areOfOneCell, type WalkedVersion } from "../past/version_walk.ts";
import { isGone, seqIn, VERSION_FILTER } from "../past/versions.ts";
import { VersionsStore } from "../past/versions_store.ts";
import { RunsReader } from "../runs/reader.ts";
import { RunsStore } from "../runs/store.ts";
import { SqlitePastLog } from "../sqlite/past_log.ts";
import { archiveFolders, type Places } from "./archived_state.ts";
import type { Finding } from "./finding.ts";

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
  return firstUnlike(allVersions(file.cells), allVersions(store), { after: through, until: file.seq });
}

/** The events whose versions are compared. */
interface Compare {
  readonly after: number;
  readonly until: number;
}

/**
 * The first version of one history that differs from the other's version of the same cell as of that seq. Both are
 * walked once, side by side. `made`: begins with the cells as of `after`.
 */
function firstUnlike(
  kept: Iterable<WalkedVersion>,
  made: Iterable<WalkedVersion>,
  { after, until }: Compare,
): Finding | null {
  const [left, right] = [new Walk(kept, until), new Walk(made, until)];
  for (;;) {
    const [one, other] = [left.version, right.version];
    if (one === null && other === null) return null;
    if (one?.isStray === true) return unlike(one, "has a version where no read finds it");
    if (left.isTwice) return unlike(one as WalkedVersion, "has two values from one event");
    const order = one === null ? 1 : other === null ? -1 : compareVersions(one, other);
    if (order <= 0 && seqIn((one as WalkedVersion).place) > after && !isSame(one as WalkedVersion, other))
      return unlike(one as WalkedVersion, "has a value that no event gave");
    if (order >= 0 && seqIn((other as WalkedVersion).place) >= after && !isSame(other as WalkedVersion, one))
      return unlike(other as WalkedVersion, "lacks a value that an event gave, or has another");
    if (order <= 0) left.next();
    if (order >= 0) right.next();
  }
}

/** The versions of a history up to an event. */
class Walk {
  readonly #versions: Iterator<WalkedVersion>;
  readonly #until: number;
  version: WalkedVersion | null = null;
  /** Whether the version before was of the same cell and seq: copies of it in several images differ. */
  isTwice = false;

  constructor(versions: Iterable<WalkedVersion>, until: number) {
    this.#versions = versions[Symbol.iterator]();
    this.#until = until;
    this.next();
  }

  next(): void {
    const before = this.version;
    do {
      const { value, done } = this.#versions.next();
      this.version = done === true ? null : value;
    } while (this.version !== null && !this.version.isStray && seqIn(this.version.place) > this.#until);
    this.isTwice = before !== null && this.version !== null && compareVersions(before, this.version) === 0;
  }
}

function compareVersions(one: WalkedVersion, other: WalkedVersion): number {
  return compareKeys(one.group, other.group) || compareKeys(one.place, other.place);
}

/** `other`: the other history's version of the same cell as of then, or one of another cell if it has none. */
function isSame(one: WalkedVersion, other: WalkedVersion | null): boolean {
  return (
    other !== null &&
    one.group === other.group &&
    areOfOneCell(one.place, other.place) &&
    isGone(one.place) === isGone(other.place) &&
    one.bytes.equals(other.bytes)
  );
}

function unlike({ place }: WalkedVersion, text: string): Finding {
  const seq = seqIn(place);
  return { seq: Number.isNaN(seq) ? null : seq, text: `the history ${text}` };
}
