import { generateKeyPairSync } from "node:crypto";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Sqlite from "better-sqlite3";
import { type Test, test } from "tap";
import { addedTo, takeUp } from "../../src/data/closing_mark.ts";
import { CanonicalWriter, entryOf, rowBytes } from "../../src/log/canonical.ts";
import type { Event, EventRow } from "../../src/log/event.ts";
import { readProof } from "../../src/log/tlog_proof.ts";
import { SqliteEventLog } from "../../src/sqlite/event_log.ts";
import { SqliteLogRows } from "../../src/sqlite/log_rows.ts";
import { SqliteTreeStore } from "../../src/sqlite/tree_store.ts";
import { done } from "../../src/syscall/outcome.ts";
import { readWitnessKey, type WitnessKey } from "../../src/tlog/cosignature.ts";
import { leafHash, nodeHash, treeRoot } from "../../src/tlog/merkle.ts";
import { type Checkpoint, openNote, readCheckpoint, signerOf } from "../../src/tlog/note.ts";
import { subtreesOf, TILE_HASHES } from "../../src/tlog/tiles.ts";
import { LogTree } from "../../src/tree/log_tree.ts";
import { lookupCommand } from "../support/commands.ts";
import { BY_ITSELF } from "../support/memory_tree.ts";
import { newWitness } from "../support/new_witness.ts";

const signer = signerOf("mapledger/x", generateKeyPairSync("ed25519").privateKey);
const other = signerOf("mapledger/x", generateKeyPairSync("ed25519").privateKey);

/** A log and its tree on disk. */
class Data {
  readonly folder = mkdtempSync(join(tmpdir(), "mapledger-tree-"));
  readonly events = join(this.folder, "events.sqlite");
  readonly treeFile = join(this.folder, "tree.sqlite");

  constructor(t: Test) {
    t.teardown(() => rmSync(this.folder, { recursive: true }));
    this.log((log) => log.possibleCpus(0, 2));
  }

  log<Answer>(use: (log: SqliteEventLog) => Answer): Answer {
    const log = new SqliteEventLog(this.events);
    const answer = use(log);
    log.close();
    return answer;
  }

  append(count: number, caller = "a"): void {
    this.log((log) => {
      const events = Array.from({ length: count }, (_, at): Event => {
        const seq = log.lastSeq + 1 + at;
        return { seq, command: lookupCommand(caller, seq), outcome: done(1, Buffer.alloc(seq % 7, seq)) };
      });
      log.append(events);
    });
  }

  run(file: string, sql: string): void {
    const db = new Sqlite(file);
    db.exec(sql);
    db.close();
  }

  rows(): EventRow[] {
    const db = new Sqlite(this.events, { readonly: true });
    const rows = db.prepare("SELECT * FROM events ORDER BY seq").all() as EventRow[];
    db.close();
    return rows;
  }

  /** Opens the tree, uses it and closes it; `whole` as a service that stops does. */
  tree<Answer>(
    use: (tree: LogTree) => Answer,
    whole = true,
    by = signer,
    published: Checkpoint | null = null,
    witnesses: WitnessKey[] = [],
  ): Answer {
    const store = new SqliteTreeStore(this.treeFile);
    const log = new SqliteLogRows(this.events, false);
    const tree = new LogTree({ ...BY_ITSELF, published, witnesses, store, log, signer: by, nowUs: () => 1 });
    const answer = use(tree);
    tree.close(whole);
    return answer;
  }
}

function signed(tree: LogTree): Checkpoint {
  while (tree.catchUp());
  const kept = tree.checkpoint();
  if ("refused" in kept) throw new Error(kept.refused);
  const opened = openNote(kept.note, signer);
  if ("wrong" in opened) throw new Error(opened.wrong);
  return readCheckpoint(opened.text) as Checkpoint;
}

/** The root over the log's rows by themselves, as RFC 6962 defines it. */
function expectedRoot(rows: readonly EventRow[]): Buffer {
  const root = (leaves: readonly Buffer[]): Buffer => {
    if (leaves.length === 1) return leaves[0] as Buffer;
    const left = 2 ** Math.floor(Math.log2(leaves.length - 1));
    return nodeHash(root(leaves.slice(0, left)), root(leaves.slice(left)));
  };
  return root(rows.map((row) => leafHash(entryOf(new CanonicalWriter().bytes(rowBytes(row))))));
}

test("the tree follows the log over restarts, and signs what its rows add up to", async (t) => {
  const data = new Data(t);
  t.equal(
    data.tree((tree) => signed(tree).size),
    0,
  );
  for (const count of [1, 255, 300, 5000]) {
    data.append(count);
    const rows = data.rows();
    const checkpoint = data.tree(signed);
    t.same(checkpoint, { origin: "mapledger/x", size: rows.length, root: expectedRoot(rows) }, `${rows.length} events`);
    t.same(data.tree(signed, false), checkpoint, "and again");
  }
});

test("every event has a proof, against the last checkpoint that has it", async (t) => {
  const data = new Data(t);
  data.append(300);
  data.tree((tree) => {
    signed(tree);
    data.append(5);
    while (tree.catchUp());
    for (const [seq, size] of [
      [1, 300],
      [256, 300],
      [300, 300],
      [301, 305],
      [1, 305],
    ] as const) {
      const proof = tree.proof(seq);
      if (!("text" in proof)) return t.fail(JSON.stringify(proof));
      const proven = readProof(proof.text, signer);
      if ("wrong" in proven) return t.fail(proven.wrong);
      t.same(proven.event, { ...data.rows()[seq - 1], flags: 0n });
      t.equal(proven.checkpoint.size, size);
    }
    return t.pass();
  });
});

test("tiles and bundles are those of tlog-tiles, and of no larger tree", async (t) => {
  const data = new Data(t);
  data.append(TILE_HASHES + 10);
  data.tree((tree) => {
    while (tree.catchUp());
    const bytes = (level: number | "entries", index: number, width: number): Buffer | undefined => {
      const answer = tree.tile({ level, index, width });
      return answer !== null && "bytes" in answer ? answer.bytes : undefined;
    };
    const root = treeRoot(
      tree.size,
      subtreesOf(
        (level, index) => bytes(level, index, level === 0 && index === 0 ? 256 : level === 0 ? 10 : 1) as Buffer,
      ),
    );
    t.same(root, expectedRoot(data.rows()));
    const bundle = bytes("entries", 1, 10) as Buffer;
    for (let at = 0; at < 10; at++) {
      const entry = bundle.subarray(at * 53 + 2, (at + 1) * 53);
      t.equal(bundle.readUInt16BE(at * 53), entry.length);
      t.same(leafHash(entry), (bytes(0, 1, 10) as Buffer).subarray(at * 32, (at + 1) * 32));
    }
    t.equal(bytes("entries", 0, 256)?.length, 256 * 53);
    for (const [level, index, width] of [
      [0, 1, 11],
      [0, 1, 256],
      [0, 2, 1],
      [1, 0, 2],
      [2, 0, 1],
      ["entries", 1, 11],
      ["entries", 2, 1],
    ] as const)
      t.equal(tree.tile({ level, index, width }), null, `${level} ${index} ${width}`);
  });
});

const DROP = "DROP TRIGGER checkpoints_stay;";

/** What is done to the data while the service is stopped, and why nothing is signed then. */
const CONTRADICTIONS: readonly [what: string, damage: (data: Data) => void, refusal: RegExp][] = [
  [
    "an event was changed",
    (d) => d.run(d.events, "UPDATE events SET caller = 'b' WHERE seq = 290"),
    /^event 290 in the log is not/,
  ],
  ["an event was removed", (d) => d.run(d.events, "DELETE FROM events WHERE seq = 280"), /^event 280 is missing/],
  [
    "the last events were removed",
    (d) => d.run(d.events, "DELETE FROM events WHERE seq > 290"),
    /^the log ends at event 29[05], the tree has 300$/,
  ],
  [
    "it is another log",
    (d) => d.run(d.events, "UPDATE ledger SET value = 'x' WHERE name = 'id'"),
    /^the tree is of the log .* this log is x$/,
  ],
  [
    "the ledger says otherwise",
    (d) => d.run(d.events, "UPDATE ledger SET value = '3' WHERE name = 'possible_cpus'"),
    /^the log was for 2 possible CPUs, now it says 3$/,
  ],
  ...["UPDATE tiles SET hashes = zeroblob(8192)", "UPDATE tiles SET hashes = zeroblob(8000)", "DELETE FROM tiles"].map(
    (sql): (typeof CONTRADICTIONS)[number] => [
      `a full tile was changed (${sql})`,
      (d) => d.run(d.treeFile, `${sql} WHERE level = 0 AND tile = 0`),
      /^hash 0 of tile 0 of the tree's level 1 is not that of the tile below it$/,
    ],
  ),
  [
    "the last tile was changed",
    (d) => d.run(d.treeFile, "UPDATE tiles SET hashes = zeroblob(32 * 44) WHERE level = 0 AND tile = 1"),
    /^the tree's root at size 299 is not/,
  ],
  [
    "a tile of nodes was changed",
    (d) => d.run(d.treeFile, "UPDATE tiles SET hashes = zeroblob(32) WHERE level = 1"),
    /^the tree's root at size 299 is not/,
  ],
  [
    "a checkpoint was replaced",
    (d) => d.run(d.treeFile, `${DROP} UPDATE checkpoints SET root = zeroblob(32)`),
    /^the checkpoint of size 299: the signed note has another origin, size or root$/,
  ],
  [
    "a note was changed",
    (d) => d.run(d.treeFile, `${DROP} UPDATE checkpoints SET note = replace(note, 'mapledger', 'mapladger')`),
    /^the checkpoint of size 299: not signed by/,
  ],
  [
    "tiles were removed, and the log is shorter than what was signed",
    (d) => {
      d.run(d.treeFile, "DELETE FROM tiles");
      d.run(d.events, "DELETE FROM events WHERE seq > 290");
    },
    /^the log ends at event 29[05], a checkpoint of size 299 was signed$/,
  ],
];

for (const [what, damage, refusal] of CONTRADICTIONS)
  test(`nothing is signed any more where ${what}, also after more events and starts`, async (t) => {
    const data = new Data(t);
    data.append(299);
    data.tree((tree) => {
      signed(tree);
      data.append(1);
      while (tree.catchUp());
    });
    damage(data);
    for (let start = 0; start < 2; start++) {
      data.tree((tree) => {
        t.match(tree.refusal, refusal);
        t.match(tree.checkpoint(), { refused: refusal });
        t.match(tree.proof(1), { refused: refusal });
        t.equal(tree.catchUp(), false);
      });
      if (what !== "an event was removed" || start === 0) data.append(5);
    }
  });

test("an older copy of the log that grows again is found out, whether it is still shorter or not", async (t) => {
  for (const grown of [0, 10, 60, 400]) {
    const data = new Data(t);
    data.append(250);
    copyFileSync(data.events, `${data.events}.old`);
    data.append(50);
    data.tree(signed);
    copyFileSync(`${data.events}.old`, data.events);
    if (grown > 0) data.append(grown, "b");
    const refusal = data.tree((tree) => tree.refusal);
    t.match(refusal, grown < 50 ? /^the log ends at event 2[56]0, the tree has 300$/ : /^event 251 in the log is not/);
  }
});

test("a tree that has less than what was signed is not filled up again", async (t) => {
  const signedRoot = (data: Data): Checkpoint => {
    data.append(300);
    return data.tree(signed);
  };
  const rows: readonly [what: string, damage: (data: Data) => void, published: boolean, refusal: string][] = [
    [
      "its tiles were removed",
      (d) => d.run(d.treeFile, "DELETE FROM tiles"),
      false,
      "the tree has 0 events, a checkpoint of size 300 was signed",
    ],
    [
      "an older copy of it was put back",
      (d) => copyFileSync(`${d.treeFile}.old`, d.treeFile),
      true,
      "the tree has 256 events, a checkpoint of size 300 was signed",
    ],
    [
      "another one was put in its place",
      (d) => rmSync(d.treeFile),
      true,
      "the tree has 0 events, a checkpoint of size 300 was signed",
    ],
  ];
  for (const [what, damage, isPublished, refusal] of rows) {
    const data = new Data(t);
    data.append(256);
    data.tree(signed);
    copyFileSync(data.treeFile, `${data.treeFile}.old`);
    data.append(44);
    const published = data.tree(signed);
    damage(data);
    const known = isPublished ? published : null;
    t.equal(
      data.tree((tree) => tree.refusal, true, signer, known),
      refusal,
      what,
    );
  }
  const data = new Data(t);
  const published = { ...signedRoot(data), root: Buffer.alloc(32) };
  t.equal(
    data.tree((tree) => tree.refusal, true, signer, published),
    "the tree's root at size 300 is not the one that was signed",
  );
});

test("tiles that change while the service runs are found before the next checkpoint", async (t) => {
  const data = new Data(t);
  data.append(300);
  data.tree((tree) => {
    signed(tree);
    data.append(1);
    while (tree.catchUp());
    data.run(
      data.treeFile,
      "UPDATE tiles SET hashes = CAST(substr(hashes, 1, 8160) || zeroblob(32) AS BLOB) WHERE level = 0 AND tile = 0",
    );
    t.same(tree.proof(1), { refused: "the tree's tiles have changed since they were written" });
    data.run(data.treeFile, "UPDATE tiles SET hashes = zeroblob(32) WHERE level = 1");
    const refused = "the tree's tiles have changed since they were written";
    t.same(tree.checkpoint(), { refused });
    t.equal(tree.refusal, refused);
  });
});

test("an event that is not the tree's gets neither a proof nor a bundle", async (t) => {
  const data = new Data(t);
  data.append(300);
  data.tree((tree) => {
    signed(tree);
    data.run(data.events, "UPDATE events SET value = x'01' WHERE seq = 3");
    const refused = "event 3 in the log is not the one that the tree has";
    t.same(tree.proof(3), { refused });
    t.same(tree.tile({ level: "entries", index: 0, width: 256 }), { refused });
    t.ok("text" in tree.proof(4));
  });
});

test("a key, and a name, may change until something was signed", async (t) => {
  const data = new Data(t);
  data.append(3);
  data.tree((tree) => tree.catchUp());
  t.equal(
    data.tree((tree) => tree.refusal, true, other),
    null,
  );
  t.equal(
    data.tree((tree) => signed(tree).size),
    3,
  );
  t.match(
    data.tree((tree) => tree.refusal, true, other),
    /^the tree is signed by mapledger\/x\+.*, the key is mapledger\/x\+/,
  );
  t.match(
    data.tree((tree) => tree.refusal, true, signerOf("mapledger/y", signer.privateKey)),
    /the key is mapledger\/y\+/,
  );
});

test("witnesses are sent, and counted for, what the present name has signed alone", async (t) => {
  const data = new Data(t);
  const witness = newWitness("w.example.org", "ed25519");
  const key = readWitnessKey(witness.vkey) as WitnessKey;
  const renamed = signerOf("mapledger/x/0badcafe", generateKeyPairSync("ed25519").privateKey);
  data.append(300);
  data.tree(
    (tree) => {
      const { size } = signed(tree);
      const sent = tree.submission(0);
      if (sent === null || "refused" in sent) return t.fail();
      t.match(sent, { size, proof: [] });
      t.match(tree.submission(301), { proof: null });
      t.same(tree.keepCosignatures(size, "nonsense"), []);
      t.same(tree.keepCosignatures(299, witness.line(sent.note)), [], "there is no such checkpoint");
      t.same(tree.keepCosignatures(size, newWitness("w.example.org", "ed25519").line(sent.note)), [], "another key");
      t.same(tree.keepCosignatures(size, witness.line(sent.note)), [witness.vkey]);
      t.match(tree.cosigned(1), { size });
      t.match(tree.cosigned(2), { uncosigned: "2 cosignatures are asked for, 1 witnesses are known" });
      return t.equal(tree.cosignedBy(key), size);
    },
    true,
    signer,
    null,
    [key],
  );
  const store = new SqliteTreeStore(data.treeFile);
  store.changeSigner({ origin: renamed.name, vkey: renamed.vkey }, 300);
  store.close();
  data.append(1);
  data.tree(
    (tree) => {
      while (tree.catchUp());
      t.equal(tree.submission(0), null);
      t.equal(tree.cosignedBy(key), 0);
      t.match(tree.cosigned(1), { uncosigned: /since another key or name signs$/ });
      t.match(tree.proof(5, 1), { uncosigned: /^no checkpoint has 1 cosignatures/ });
      tree.checkpoint();
      t.match(tree.submission(0), { size: 301, proof: [] });
      t.match(tree.submission(300), { size: 301, proof: { length: 5 } });
    },
    true,
    renamed,
    null,
    [key],
  );
});

test("events that came while the tree was closed are told of, those of a run that has taken it up are not", async (t) => {
  const data = new Data(t);
  const log = { id: "x", lastSeq: 4 };
  data.append(3);
  log.id = data.tree(({ status }) => status.log);
  data.tree(signed);
  data.append(1);
  t.equal(addedTo(data.folder, { ...log, lastSeq: 3 }), null);
  t.equal(addedTo(data.folder, log), "event 4 came into the log after the service had stopped at 3");
  takeUp(data.folder, "another");
  t.equal(addedTo(data.folder, log), "event 4 came into the log after the service had stopped at 3");
  takeUp(data.folder, log.id);
  t.equal(addedTo(data.folder, log), null, "whatever kills the process from here on");
  data.tree(signed, false);
  t.equal(addedTo(data.folder, { ...log, lastSeq: 9 }), null, "it was not closed with all of the log: it was killed");
});

test("a column that is not what it was decoded to is another event", async (t) => {
  const data = new Data(t);
  data.append(2);
  data.run(data.events, "UPDATE events SET attr = 'x' || char(65533), flags = 1152921504606846977 WHERE seq = 2");
  data.tree(signed);
  for (const sql of ["attr = CAST(x'78FF' AS TEXT)", "flags = 1152921504606846976"]) {
    const copy = new Data(t);
    copyFileSync(data.events, copy.events);
    copyFileSync(data.treeFile, copy.treeFile);
    t.equal(
      copy.tree((tree) => tree.refusal),
      null,
    );
    copy.run(copy.events, `UPDATE events SET ${sql} WHERE seq = 2`);
    t.match(
      copy.tree((tree) => tree.refusal),
      /^event 2 in the log is not/,
      sql,
    );
  }
});

test("large columns are hashed as small ones are", async (t) => {
  const data = new Data(t);
  data.append(3);
  data.run(data.events, "UPDATE events SET value = zeroblob(70000), detail = printf('%.*c', 5000, 'x') WHERE seq = 2");
  t.same(data.tree(signed).root, expectedRoot(data.rows()));
});
