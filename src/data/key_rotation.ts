/** Replaces the key that signs a log's checkpoints. `open_tree.ts` finishes a change that was interrupted. */

import { join } from "node:path";
import { CMD } from "../abi/service.ts";
import { signerOf } from "../tlog/note.ts";
import type { TreeStatus } from "../tree/ports.ts";
import { NEXT_KEY_FILE } from "./layout.ts";
import { makeLogKey } from "./log_key.ts";
import { openTree } from "./open_tree.ts";
import { StoppedLog } from "./stopped_log.ts";

export interface RotateKey {
  readonly data: string;
  /** The setting MAPLEDGER_ORIGIN. */
  readonly origin: string;
}

export interface RotatedKey {
  /** The seq of the KEY_ROTATE event; the checkpoint that both keys have signed includes it. */
  readonly seq: number;
  readonly signer: string;
  readonly vkey: string;
}

/**
 * Replaces the key that signs a stopped service's log. The steps, each durable before the next: the new key is written
 * to log.key.next, an event names it, both keys sign a checkpoint that includes the event, and the new key takes the
 * place of the former. If the process dies in between, the next opening of the tree finishes the change. Throws an
 * Error with the reason if the key cannot be replaced.
 */
export function rotateKey({ data, origin }: RotateKey): RotatedKey {
  const stopped = StoppedLog.open(data);
  try {
    const { origin: name, vkey: signer } = bringTree(data, origin, false);
    const { vkey } = signerOf(name, makeLogKey(join(data, NEXT_KEY_FILE)));
    const seq = stopped.append({ cmd: CMD.KEY_ROTATE, attr: { signer, vkey } });
    bringTree(data, origin, true);
    return { seq, signer, vkey };
  } finally {
    stopped.close();
  }
}

/**
 * Opens the tree, which finishes an interrupted change of keys, and brings it to the log's end. Throws if the log
 * cannot be signed. `last`: no event will follow, so the closing mark is set.
 */
function bringTree(data: string, origin: string, last: boolean): TreeStatus {
  const tree = openTree(data, origin);
  try {
    while (tree.catchUp());
    if (tree.refusal !== null) throw new Error(`no checkpoint is signed any more: ${tree.refusal}`);
    return tree.status;
  } finally {
    tree.close(last);
  }
}
