import { createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { existsSync, renameSync } from "node:fs";
import { join } from "node:path";
import { readSmall, sync, writeKey } from "../files/contents.ts";
import { publicKeyOf, signerOf } from "../tlog/note.ts";
import { KEY_FILE, NEXT_KEY_FILE } from "./layout.ts";

/** The key that signs a log's checkpoints, PKCS #8 in PEM; made where there is none. Throws where the file holds another key. */
export function openLogKey(file: string): KeyObject {
  return readLogKey(file) ?? makeLogKey(file);
}

/** A file that should have a key that signs has none. */
export class NoKey extends Error {}

/** null: there is no such file. Throws NoKey where it holds something else. */
export function readLogKey(file: string): KeyObject | null {
  if (!existsSync(file)) return null;
  const bytes = readSmall(file);
  let key: KeyObject;
  try {
    key = createPrivateKey(bytes);
  } catch (error) {
    throw new NoKey(`reading ${file}: a private key is needed: ${(error as Error).message}`);
  }
  if (key.asymmetricKeyType !== "ed25519")
    throw new NoKey(`reading ${file}: an Ed25519 key is needed, found ${key.asymmetricKeyType}`);
  return key;
}

/** Makes a key, in place of one that may be there: the file is whole or not there, and on the disk when this returns. */
export function makeLogKey(file: string): KeyObject {
  const { privateKey } = generateKeyPairSync("ed25519");
  writeKey(file, privateKey);
  return privateKey;
}

/** The next key becomes the one that signs, and the former one is gone; on the disk when this returns. */
export function takeNextKey(data: string): void {
  renameSync(join(data, NEXT_KEY_FILE), join(data, KEY_FILE));
  sync(data);
}

/** Ends a change of keys that was cut short, if the next one is the public key that is named. */
export function settleKey(data: string, publicKey: string): void {
  const next = readLogKey(join(data, NEXT_KEY_FILE));
  if (next !== null && publicKeyOf(signerOf("next", next).vkey) === publicKey) takeNextKey(data);
}
