import { existsSync } from "node:fs";
import { join } from "node:path";
import { makePrivate } from "../files/modes.ts";
import { holdLock } from "../sqlite/lock.ts";
import type { Verifier } from "../tlog/note.ts";
import { KEY_FILES, openKeys } from "./keys.ts";
import { WitnessStore } from "./store.ts";
import { Witness } from "./witness.ts";

const STORE_FILE = "witness.sqlite";
const LOCK_FILE = "lock.sqlite";

export interface OpenWitness {
  readonly data: string;
  /** null: the witness keeps the name that it has. */
  readonly name: string | null;
  readonly logs: readonly Verifier[];
}

/**
 * Opens a witness' directory for this process alone, until `close` is called; makes the directory if it does not exist.
 * Throws an Error with the reason if it cannot. If keys exist but the store does not, it refuses: the witness no longer
 * knows what it has cosigned, and could cosign a second history.
 */
export function openWitness({ data, name, logs }: OpenWitness): { readonly witness: Witness; close(): void } {
  makePrivate(data);
  const unlock = holdLock(join(data, LOCK_FILE), data);
  try {
    const file = join(data, STORE_FILE);
    if (!existsSync(file) && KEY_FILES.some((key) => existsSync(join(data, key))))
      throw new Error(
        `${file} is missing: without it this witness does not know which checkpoints it has cosigned. Put the file back, or begin another witness, with other keys, in an empty directory`,
      );
    const store = new WitnessStore(file);
    try {
      const signers = openKeys(data, store, name);
      const witness = new Witness({ store, signers, logs, nowS: () => Math.floor(Date.now() / 1000) });
      const close = (): void => {
        store.close();
        unlock();
      };
      return { witness, close };
    } catch (error) {
      store.close();
      throw error;
    }
  } catch (error) {
    unlock();
    throw error;
  }
}
