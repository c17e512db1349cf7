import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { type RowBytes, rowBytes } from "../../src/log/canonical.ts";
import { SqliteTreeStore } from "../../src/sqlite/tree_store.ts";
import type { WitnessKey } from "../../src/tlog/cosignature.ts";
import { signerOf } from "../../src/tlog/note.ts";
import type { TileName } from "../../src/tlog/tiles.ts";
import { LogTree } from "../../src/tree/log_tree.ts";
import type { KeptCheckpoint, LogRows, NoAnswer, TreeReader, TreeStatus } from "../../src/tree/ports.ts";
import type { MemoryLog } from "./memory_log.ts";

/** A tree of which nothing is known outside of its store. */
export const BY_ITSELF = { missing: null, published: null, publish() {}, witnesses: [] } as const;

/** The tree over a log in memory, made when it is asked for. */
export class MemoryTree implements TreeReader {
  readonly key: KeyObject = generateKeyPairSync("ed25519").privateKey;
  readonly tree: LogTree;

  constructor(log: MemoryLog, witnesses: readonly WitnessKey[] = []) {
    const signer = signerOf("mapledger/test", this.key);
    const store = new SqliteTreeStore(":memory:");
    this.tree = new LogTree({ ...BY_ITSELF, witnesses, store, log: rowsOf(log), signer, nowUs: () => 0 });
  }

  async status(): Promise<TreeStatus> {
    return this.tree.status;
  }

  async checkpoint(): Promise<{ note: string } | NoAnswer> {
    this.#catchUp();
    return this.#noted(this.tree.checkpoint());
  }

  async cosigned(count: number): Promise<{ note: string } | NoAnswer> {
    return this.#noted(this.tree.cosigned(count));
  }

  async proof(seq: number, cosigned: number | null): Promise<{ text: string } | NoAnswer | null> {
    if (seq > this.tree.lastSeq()) return null;
    this.#catchUp();
    return this.tree.proof(seq, cosigned);
  }

  async tile(name: TileName): Promise<{ bytes: Buffer } | NoAnswer | null> {
    return this.tree.tile(name);
  }

  async close(): Promise<void> {}

  #noted(answer: KeptCheckpoint | NoAnswer): { note: string } | NoAnswer {
    return "note" in answer ? { note: this.tree.noteOf(answer) } : answer;
  }

  #catchUp(): void {
    while (this.tree.catchUp());
  }
}

function rowsOf({ rows }: MemoryLog): LogRows {
  return {
    id: "test",
    possibleCpus: "2",
    life: "test",
    lastSeq: () => rows.length,
    archivedThrough: () => 0,
    archivedEntries: () => ({ first: 1, entries: [] }),
    *rows(afterSeq, untilSeq): Iterable<RowBytes> {
      for (const row of rows.slice(afterSeq, untilSeq)) yield rowBytes(row);
    },
    others: (afterSeq, untilSeq) => untilSeq - afterSeq,
    recorded: () => "",
    close() {},
  };
}
