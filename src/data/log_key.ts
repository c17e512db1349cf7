import { createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { existsSync, renameSync } from "node:fs";
import { join } from "node:path";
import { readSmall, sync, writeKey } from "../files/contents.ts";
import { publicKeyOf, signerOf } from "../tlog/note.ts";
import { KEY_FILE, NEXT_KEY_FILE } from "./layout.ts";

/**
 * The key that signs a log's checkpoints, PKCS #8 in PEM; it is made if the file does not exist. Throws NoKey if the
 * file has no Ed25519 key.
 */
export function openLogKey(file: string): KeyObject {
  return readLogKey(file) ?? makeLogKey(file);
}

/** A key file that has no usable key. */
export class NoKey extends Error {}

/** Returns null if the file does not exist. Throws NoKey if it has no Ed25519 key. */
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

/**
 * Makes a key and writes it to the file, replacing one that exists. The file is complete and durable when this returns.
 */
export function makeLogKey(file: string): KeyObject {
  const { privateKey } = generateKeyPairSync("ed25519");
  writeKey(file, privateKey);
  return privateKey;
}

/** Replaces the signing key by the next one; durable when this returns. */
export function takeNextKey(data: string): void {
  renameSync(join(data, NEXT_KEY_FILE), join(data, KEY_FILE));
  sync(data);
}

/** Finishes an interrupted change of keys, if the next key has this public key. */
export function settleKey(data: string, publicKey: string): void {
  const next = readLogKey(join(data, NEXT_KEY_FILE));
  if (next !== null && publicKeyOf(signerOf("next", next).vkey) === publicKey) takeNextKey(data);
}
