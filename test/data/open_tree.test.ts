import { copyFileSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Sqlite from "better-sqlite3";
import { type Test, test } from "tap";
import { CMD } from "../../src/abi/service.ts";
import { openTree } from "../../src/data/open_tree.ts";
import type { Event } from "../../src/log/event.ts";
import { SqliteEventLog } from "../../src/sqlite/event_log.ts";
import { done } from "../../src/syscall/outcome.ts";
import type { LogTree } from "../../src/tree/log_tree.ts";
import { beginTree } from "../../src/verify/new_tree.ts";
import { lookupCommand } from "../support/commands.ts";

/** A data directory whose tree was signed at 4 events and at 8, of which events tell. */
class Data {
  readonly folder = mkdtempSync(join(tmpdir(), "mapledger-open-tree-"));

  constructor(t: Test) {
    t.teardown(() => rmSync(this.folder, { recursive: true }));
    for (let round = 0; round < 2; round++) {
      this.append(round === 0 ? 4 : 3);
      this.sign();
    }
    this.tree(() => {});
  }

  file(name: string): string {
    return join(this.folder, name);
  }

  #log(use: (log: SqliteEventLog) => void): void {
    const log = new SqliteEventLog(this.file("events.sqlite"));
    log.possibleCpus(2, 2);
    use(log);
    log.close();
  }

  append(count: number): void {
    this.#log((log) => {
      const first = log.lastSeq + 1;
      log.append(
        Array.from({ length: count }, (_, at): Event => {
          return { seq: first + at, command: lookupCommand("a", first + at), outcome: done(0) };
        }),
      );
    });
  }

  sign(): void {
    const { note, size } = this.tree((tree) => {
      const checkpoint = tree.checkpoint();
      if ("refused" in checkpoint) throw new Error(checkpoint.refused);
      return checkpoint;
    });
    copyFileSync(this.file("tree.sqlite"), this.file(`tree.${size}`));
    this.#log((log) => {
      const attr = { size, log: log.id, possible_cpus: "2", life: log.life, note };
      const command = { session: 0, caller: "mapledger", timeUs: log.lastTimeUs, cmd: CMD.CHECKPOINT, attr };
      log.append([{ seq: log.lastSeq + 1, command, outcome: done(0) }]);
    });
  }

  /** Opens the tree, brings it to the log's end, uses it and closes it. */
  tree<Answer>(use: (tree: LogTree) => Answer): Answer {
    const tree = openTree(this.folder, "");
    while (tree.catchUp());
    const answer = use(tree);
    tree.close(tree.size === tree.lastSeq());
    return answer;
  }

  run(sql: string): void {
    const db = new Sqlite(this.file("events.sqlite"));
    db.exec(sql);
    db.close();
  }

  get files(): string[] {
    return readdirSync(this.folder).filter((name) => !/-(wal|shm)$/.test(name));
  }
}

/** What is gone or put back while the service is stopped, and what the tree says of it. */
const LOST: readonly [what: string, damage: (data: Data) => void, refusal: string][] = [
  [
    "the tree is removed",
    (data) => rmSync(data.file("tree.sqlite")),
    "tree.sqlite is missing: a checkpoint of size 8 was signed",
  ],
  [
    "the tree and the newest checkpoint's file are removed",
    (data) => {
      rmSync(data.file("tree.sqlite"));
      rmSync(data.file("checkpoint"));
    },
    "tree.sqlite is missing: a checkpoint of size 8 was signed",
  ],
  [
    "the tree, the file and the ledger's fact are removed",
    (data) => {
      rmSync(data.file("tree.sqlite"));
      rmSync(data.file("checkpoint"));
      data.run("DELETE FROM ledger WHERE name = 'checkpoint'");
    },
    "tree.sqlite is missing: the log has a key, so it had a tree",
  ],
  [
    "an older copy of the tree is put back",
    (data) => copyFileSync(data.file("tree.4"), data.file("tree.sqlite")),
    "the tree has 4 events, a checkpoint of size 8 was signed",
  ],
  [
    "the key is removed",
    (data) => rmSync(data.file("log.key")),
    "log.key is missing: it has signed a checkpoint of size 8",
  ],
  [
    "the newest checkpoint's file is written over",
    (data) => copyFileSync(data.file("log.key"), data.file("checkpoint")),
    "the file checkpoint is not a checkpoint",
  ],
];

for (const [what, damage, refusal] of LOST)
  test(`a tree is not begun anew by itself: ${what}`, async (t) => {
    const data = new Data(t);
    damage(data);
    const { files } = data;
    for (let start = 0; start < 2; start++) {
      data.tree((tree) => {
        t.equal(tree.refusal, refusal);
        t.same([tree.checkpoint(), tree.proof(2)], [{ refused: refusal }, { refused: refusal }]);
      });
      data.append(1);
    }
    t.same(data.files, files, "nothing was made");
    const begun = beginTree({ data: data.folder, origin: "", archive: null });
    t.match(begun, { seq: 12, reason: refusal, continues: true });
    data.tree((tree) => {
      t.equal(tree.refusal, null);
      t.match(tree.checkpoint(), { size: 12 });
    });
  });

test("what has no recorded checkpoint is counted over starts, CHECKPOINT events aside", async (t) => {
  const data = new Data(t);
  const unrecorded = (): number => data.tree((tree) => tree.unrecorded);
  t.equal(unrecorded(), 0);
  data.append(2);
  t.equal(unrecorded(), 2);
  data.tree((tree) => {
    data.append(1);
    while (tree.catchUp());
    t.equal(tree.unrecorded, 3);
    tree.checkpoint();
    t.equal(tree.unrecorded, 3, "nobody has recorded it yet");
  });
  data.sign();
  t.equal(unrecorded(), 0);
});

test("a log that was never signed begins its tree by itself, whatever it has", async (t) => {
  const data = new Data(t);
  for (const name of ["tree.sqlite", "checkpoint", "log.key"]) rmSync(data.file(name));
  data.run("DELETE FROM ledger WHERE name = 'checkpoint'");
  t.equal(
    data.tree((tree) => tree.refusal),
    null,
  );
});
