import { createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { writeKey } from "../files/contents.ts";
import { COSIGNING, type WitnessSigner, witnessSigner } from "../tlog/cosignature.ts";
import type { WitnessStore } from "./store.ts";

const keyFile = (algorithm: string): string => `${algorithm}.key`;

/** Files of a witness' keys, by which it is seen that there was one. */
export const KEY_FILES: readonly string[] = COSIGNING.map(keyFile);

/**
 * The keys of a witness, one for each type of cosignature, made at its first start. From then on they are those that the store
 * names: a witness that has lost a key, or gets another name, is another witness. Throws an Error that says so.
 */
export function openKeys(directory: string, store: WitnessStore, name: string | null): readonly WitnessSigner[] {
  const known = store.identity;
  if (known !== null && name !== null && name !== known.name)
    throw new Error(`this witness is called ${known.name}: one of another name needs a directory of its own`);
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

/** Whole or not at all, and on the disk when this returns. */
function makeKey(file: string, algorithm: (typeof COSIGNING)[number]): KeyObject {
  // Their types are told apart by the algorithm alone.
  const { privateKey } = generateKeyPairSync(algorithm as "ed25519");
  writeKey(file, privateKey);
  return privateKey;
}
