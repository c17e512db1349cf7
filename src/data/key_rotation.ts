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
  /** MAPLEDGER_ORIGIN. */
  readonly origin: string;
}

export interface RotatedKey {
  /** Of the event, and of the checkpoint that both keys have signed. */
  readonly seq: number;
  readonly signer: string;
  readonly vkey: string;
}

/**
 * Gives a stopped service's log another key for its checkpoints. The key is on the disk before an event names it, and signs when
 * the event is in a checkpoint that the former key has signed, too; whatever of that is still to do when the process dies, the
 * next one does that opens the tree. Throws an Error that says why not.
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

/** Opens the tree, which finishes a change of keys, and brings it to the log's end. Throws if nothing is signed any more. `last`: no event follows. */
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
