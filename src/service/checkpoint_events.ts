/**
 * The events of signed checkpoints. The tree's thread decides when a checkpoint is due, and signs it
 * (`tree/keeper.ts`); its event is a command of the service's own, so the engine signs nothing.
 */

import type { Logger } from "pino";
import { CMD } from "../abi/service.ts";
import { SERVICE_NAME } from "../access/caller.ts";
import type { EngineClient } from "../engine/client.ts";
import type { CheckpointCommand } from "../syscall/command.ts";

/** Appends the event of a signed checkpoint, and writes a log line. Resolves to whether the event is in the log. */
export type RecordCheckpoint = (checkpoint: CheckpointCommand["attr"]) => Promise<boolean>;

export function checkpointRecorder(engine: Pick<EngineClient, "run">, logger: Logger): RecordCheckpoint {
  return async (attr) => {
    const { size, note } = attr;
    try {
      const reply = await engine.run({ cmd: CMD.CHECKPOINT, session: 0, caller: SERVICE_NAME, attr });
      if ("failure" in reply) throw new Error(reply.detail);
      logger.info({ seq: reply.seq, size, note }, `a checkpoint of ${size} events was signed`);
      return true;
    } catch (error) {
      logger.error(
        { err: error, note },
        `a checkpoint of ${size} events was signed, but its event could not be written`,
      );
      return false;
    }
  };
}
