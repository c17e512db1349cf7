/** Signed notes with Ed25519 keys: https://c2sp.org/signed-note. */

import { createPublicKey, hash, type KeyObject, sign, verify } from "node:crypto";

const ED25519 = 1;
const KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;
const ID_BYTES = 4;
/** The most signature lines that are read from a note: the log's, and those that witnesses have added. */
const SIGNATURES_MAX = 100;

/** A key that verifies notes, with the name and id by which a signature line refers to it. */
export interface Verifier {
  readonly name: string;
  readonly id: Buffer;
  readonly key: KeyObject;
  /** The key's text form, `name+id+key`, as verifiers are given it. */
  readonly vkey: string;
}

export interface Signer extends Verifier {
  readonly privateKey: KeyObject;
}

/** Whether a text can name a key: not empty, without spaces, plus signs and control characters. */
export function isKeyName(name: string): boolean {
  return name !== "" && !/[\s+\p{Cc}]/u.test(name);
}

function verifierOf(name: string, key: KeyObject): Verifier {
  const bytes = Buffer.from(key.export({ format: "jwk" }).x as string, "base64url");
  const typed = Buffer.concat([Buffer.from([ED25519]), bytes]);
  const id = hash("sha256", Buffer.concat([Buffer.from(`${name}\n`), typed]), "buffer").subarray(0, ID_BYTES);
  return { name, id, key, vkey: `${name}+${id.toString("hex")}+${typed.toString("base64")}` };
}

export function signerOf(name: string, privateKey: KeyObject): Signer {
  return { ...verifierOf(name, createPublicKey(privateKey)), privateKey };
}

/** Reads a verifier key; null if the text is not one of an Ed25519 key. */
export function readVkey(text: string): Verifier | null {
  const [, name = "", id, key = ""] = /^([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/.exec(text) ?? [];
  const typed = readBase64(key);
  if (!isKeyName(name) || typed === null || typed.length !== 1 + KEY_BYTES || typed[0] !== ED25519) return null;
  const x = typed.subarray(1).toString("base64url");
  const verifier = verifierOf(name, createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" }));
  return verifier.id.toString("hex") === id ? verifier : null;
}

/**
 * The last part of a verifier key: type and public key. A log that is renamed keeps it. "log+1a2b3c4d+AbCd" -> "AbCd"
 */
export function publicKeyOf(vkey: string): string {
  return vkey.split("+").slice(2).join("+");
}

/** Signs a text that ends in a newline; each signer adds one signature line. */
export function signNote(text: string, ...signers: readonly Signer[]): string {
  const lines = signers.map(({ name, id, privateKey }) =>
    signatureLine(name, Buffer.concat([id, sign(null, Buffer.from(text), privateKey)])),
  );
  return `${text}\n${lines.join("")}`;
}

/** The signature line of a note. `signature`: the key's id (4 bytes) and the signature. */
export function signatureLine(name: string, signature: Buffer): string {
  return `\u2014 ${name} ${signature.toString("base64")}\n`;
}

/**
 * Splits a note into its text and its signatures (key id and signature bytes), unverified; `wrong`: why it is no signed
 * note.
 */
export function noteParts(
  note: string,
):
  | { readonly text: string; readonly signatures: readonly { readonly name: string; readonly signature: Buffer }[] }
  | { readonly wrong: string } {
  const end = note.lastIndexOf("\n\n");
  if (end === -1 || !note.endsWith("\n")) return { wrong: "not a signed note" };
  const text = note.slice(0, end + 1);
  const lines = note.slice(end + 2, -1).split("\n");
  if (lines.length > SIGNATURES_MAX) return { wrong: `more than ${SIGNATURES_MAX} signatures` };
  const signatures: { name: string; signature: Buffer }[] = [];
  for (const line of lines) {
    const [, name, base64 = ""] = /^\u2014 ([^ ]+) ([^ ]+)$/.exec(line) ?? [];
    const signature = readBase64(base64);
    if (name === undefined || signature === null || signature.length <= ID_BYTES)
      return { wrong: `not a signature line: "${line.slice(0, 80)}"` };
    signatures.push({ name, signature });
  }
  return { text, signatures };
}

/** The note's text if the key has signed it; `wrong`: why it cannot be trusted. */
export function openNote(note: string, verifier: Verifier): { readonly text: string } | { readonly wrong: string } {
  const parts = noteParts(note);
  if ("wrong" in parts) return parts;
  const { text, signatures } = parts;
  let signed = false;
  for (const { name, signature } of signatures) {
    if (name !== verifier.name || !signature.subarray(0, ID_BYTES).equals(verifier.id)) continue;
    const bytes = signature.subarray(ID_BYTES);
    if (bytes.length !== SIGNATURE_BYTES || !verify(null, Buffer.from(text), verifier.key, bytes))
      return { wrong: `the signature of ${name} does not hold` };
    signed = true;
  }
  return signed ? { text } : { wrong: `not signed by ${verifier.vkey}` };
}

/** The head of a tree: https://c2sp.org/tlog-checkpoint. */
export interface Checkpoint {
  readonly origin: string;
  readonly size: number;
  readonly root: Buffer;
}

export function checkpointText({ origin, size, root }: Checkpoint): string {
  return `${origin}\n${size}\n${root.toString("base64")}\n`;
}

/** Reads a checkpoint's text; null if it is not one. Extension lines, from the fourth on, are ignored. */
export function readCheckpoint(text: string): Checkpoint | null {
  const [origin = "", size = "", base64 = ""] = text.split("\n");
  const root = readBase64(base64);
  const number = readSize(size);
  if (origin === "" || number === null || root?.length !== 32) return null;
  return { origin, size: number, root };
}

/** Reads a tree's size in decimal digits; null if the text is not one, or the size is above 2^53 - 1. */
export function readSize(text: string): number | null {
  return /^(0|[1-9]\d{0,15})$/.test(text) && Number.isSafeInteger(Number(text)) ? Number(text) : null;
}

/** The checkpoint in a note whose signatures are not verified; null if its text is not one. */
export function notedCheckpoint(note: string): Checkpoint | null {
  const end = note.lastIndexOf("\n\n");
  return end === -1 ? null : readCheckpoint(note.slice(0, end + 1));
}

/** Reads base64 of RFC 4648, section 4, with padding; null if the text is not its only spelling. */
export function readBase64(text: string): Buffer | null {
  const bytes = Buffer.from(text, "base64");
  return bytes.toString("base64") === text ? bytes : null;
}
