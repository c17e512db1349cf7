import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { LogTree } from "../../src/engine/log_tree.ts";
import type { LogRows, NoAnswer, TreeReader, TreeStatus } from "../../src/engine/tree.ts";
import { type RowBytes, rowBytes } from "../../src/log/canonical.ts";
import { signerOf } from "../../src/log/note.ts";
import type { TileName } from "../../src/log/tiles.ts";
import { SqliteTreeStore } from "../../src/sqlite/tree_store.ts";
import type { MemoryLog } from "./memory_log.ts";

/** A tree of which nothing is known outside of its store. */
export const BY_ITSELF = { missing: null, published: null, publish() {} } as const;

/** The tree over a log in memory, made when it is asked for. */
export class MemoryTree implements TreeReader {
  readonly key: KeyObject = generateKeyPairSync("ed25519").privateKey;
  readonly tree: LogTree;

  constructor(log: MemoryLog) {
    const signer = signerOf("mapledger/test", this.key);
    const store = new SqliteTreeStore(":memory:");
    this.tree = new LogTree({ ...BY_ITSELF, store, log: rowsOf(log), signer, nowUs: () => 0 });
  }

  async status(): Promise<TreeStatus> {
    return this.tree.status;
  }

  async checkpoint(): Promise<{ note: string } | NoAnswer> {
    this.#catchUp();
    return this.tree.checkpoint();
  }

  async proof(seq: number): Promise<{ text: string } | NoAnswer | null> {
    if (seq > this.tree.lastSeq()) return null;
    this.#catchUp();
    return this.tree.proof(seq);
  }

  async tile(name: TileName): Promise<{ bytes: Buffer } | NoAnswer | null> {
    return this.tree.tile(name);
  }

  async close(): Promise<void> {}

  #catchUp(): void {
    while (this.tree.catchUp());
  }
}

function rowsOf({ rows }: MemoryLog): LogRows {
  return {
    id: "test",
    possibleCpus: "2",
    lastSeq: () => rows.length,
    archivedThrough: () => 0,
    *rows(afterSeq, untilSeq): Iterable<RowBytes> {
      for (const row of rows.slice(afterSeq, untilSeq)) yield rowBytes(row);
    },
    others: (afterSeq, untilSeq) => untilSeq - afterSeq,
    recorded: () => "",
    close() {},
  };
}
