/**
 * The keys of a witness. It has one for each type of cosignature, made at its first start, and keeps them for good: a
 * witness with other keys is another witness.
 */

import { createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { writeKey } from "../files/contents.ts";
import { COSIGNING, type WitnessSigner, witnessSigner } from "../tlog/cosignature.ts";
import type { WitnessStore } from "./store.ts";

const keyFile = (algorithm: string): string => `${algorithm}.key`;

/** The files of a witness' keys. If one exists, the directory has belonged to a witness. */
export const KEY_FILES: readonly string[] = COSIGNING.map(keyFile);

/**
 * Opens a witness' keys, or makes them if the store is new. Throws an Error if a key is missing or differs from the one
 * that the store names, or if `name` differs from the witness' name.
 */
export function openKeys(directory: string, store: WitnessStore, name: string | null): readonly WitnessSigner[] {
  const known = store.identity;
  if (known !== null && name !== null && name !== known.name)
    throw new Error(`this witness is named ${known.name}: a witness with another name needs its own directory`);
  const called = known?.name ?? name;
  if (called === null) throw new Error("a new witness needs a name: --name, such as witness.example.org");
  const signers = COSIGNING.map((algorithm) => {
    const file = join(directory, keyFile(algorithm));
    if (known !== null && !existsSync(file)) throw new Error(`${file} is missing: this witness has cosigned with it`);
    return witnessSigner(called, existsSync(file) ? createPrivateKey(readFileSync(file)) : makeKey(file, algorithm));
  });
  const vkeys = signers.map(({ vkey }) => vkey);
  if (known === null) store.begin({ name: called, vkeys });
  else if (vkeys.join() !== known.vkeys.join())
    throw new Error(`the keys in ${directory} are not those of this witness`);
  return signers;
}

/** The key file is complete and durable when this returns. */
function makeKey(file: string, algorithm: (typeof COSIGNING)[number]): KeyObject {
  // The cast picks one overload; the algorithm alone selects the key's type.
  const { privateKey } = generateKeyPairSync(algorithm as "ed25519");
  writeKey(file, privateKey);
  return privateKey;
}
