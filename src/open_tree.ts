import { join } from "node:path";
import { LogTree } from "./engine/log_tree.ts";
import { signerOf } from "./log/note.ts";
import { openLogKey } from "./log_key.ts";
import { SqliteLogRows } from "./sqlite/log_rows.ts";
import { SqliteTreeStore } from "./sqlite/tree_store.ts";

/** The tree of a data directory's log. `origin` "": what it was, and mapledger/ with the log's id where it was none. */
export function openTree(data: string, origin: string): LogTree {
  const log = new SqliteLogRows(join(data, "events.sqlite"), false);
  const store = new SqliteTreeStore(join(data, "tree.sqlite"));
  const name = origin || store.identity?.origin || `mapledger/${log.id}`;
  const signer = signerOf(name, openLogKey(join(data, "log.key")));
  return new LogTree({ store, log, signer, nowUs: () => Date.now() * 1000 });
}
