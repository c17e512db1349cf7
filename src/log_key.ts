import { createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from "node:fs";

/** For its owner alone. */
const MODE = 0o600;

/** The key that signs a log's checkpoints, PKCS #8 in PEM; made where there is none. Throws where the file holds another key. */
export function openLogKey(file: string): KeyObject {
  if (!existsSync(file)) make(file);
  const key = createPrivateKey(readFileSync(file));
  if (key.asymmetricKeyType !== "ed25519")
    throw new Error(`reading ${file}: an Ed25519 key is needed, found ${key.asymmetricKeyType}`);
  return key;
}

/** Whole or not at all, whenever the process ends. */
function make(file: string): void {
  const { privateKey } = generateKeyPairSync("ed25519");
  const unfinished = openSync(`${file}.new`, "w", MODE);
  writeFileSync(unfinished, privateKey.export({ type: "pkcs8", format: "pem" }));
  fsyncSync(unfinished);
  closeSync(unfinished);
  renameSync(`${file}.new`, file);
}
