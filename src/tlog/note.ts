import { createPublicKey, hash, type KeyObject, sign, verify } from "node:crypto";

/** Signed notes with Ed25519 keys: https://c2sp.org/signed-note. */

const ED25519 = 1;
const KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;
const ID_BYTES = 4;
/** A note has no more signatures than these; witnesses may have added theirs. */
const SIGNATURES_MAX = 100;

/** Who signs, and how the signatures are known. */
export interface Verifier {
  readonly name: string;
  readonly id: Buffer;
  readonly key: KeyObject;
  /** `name+id+key`, as it is given to those who verify. */
  readonly vkey: string;
}

export interface Signer extends Verifier {
  readonly privateKey: KeyObject;
}

/** A key's name: no spaces, no plus sign, not empty. */
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

/** Reads a verifier key; null where the text is none of an Ed25519 key. */
export function readVkey(text: string): Verifier | null {
  const [, name = "", id, key = ""] = /^([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/.exec(text) ?? [];
  const typed = readBase64(key);
  if (!isKeyName(name) || typed === null || typed.length !== 1 + KEY_BYTES || typed[0] !== ED25519) return null;
  const x = typed.subarray(1).toString("base64url");
  const verifier = verifierOf(name, createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" }));
  return verifier.id.toString("hex") === id ? verifier : null;
}

/** What a verifier key has behind its name and id: the same if a log gets another name. */
export function publicKeyOf(vkey: string): string {
  return vkey.split("+").slice(2).join("+");
}

/** Signs a text, which ends in a newline: a line for each signer. */
export function signNote(text: string, ...signers: readonly Signer[]): string {
  const lines = signers.map(({ name, id, privateKey }) =>
    signatureLine(name, Buffer.concat([id, sign(null, Buffer.from(text), privateKey)])),
  );
  return `${text}\n${lines.join("")}`;
}

/** A note's line of a signature, which has the key's id before it. */
export function signatureLine(name: string, signature: Buffer): string {
  return `\u2014 ${name} ${signature.toString("base64")}\n`;
}

/** A note's text and its signatures, each with the key's id before it, or why it is no signed note. */
export function noteParts(
  note: string,
):
  | { readonly text: string; readonly signatures: readonly { readonly name: string; readonly signature: Buffer }[] }
  | { readonly wrong: string } {
  const end = note.lastIndexOf("\n\n");
  if (end === -1 || !note.endsWith("\n")) return { wrong: "it is no signed note" };
  const text = note.slice(0, end + 1);
  const lines = note.slice(end + 2, -1).split("\n");
  if (lines.length > SIGNATURES_MAX) return { wrong: `it has more than ${SIGNATURES_MAX} signatures` };
  const signatures: { name: string; signature: Buffer }[] = [];
  for (const line of lines) {
    const [, name, base64 = ""] = /^\u2014 ([^ ]+) ([^ ]+)$/.exec(line) ?? [];
    const signature = readBase64(base64);
    if (name === undefined || signature === null || signature.length <= ID_BYTES)
      return { wrong: `"${line.slice(0, 80)}" is no signature` };
    signatures.push({ name, signature });
  }
  return { text, signatures };
}

/** The text of a note that the key has signed, or why it is not to be believed. */
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
  return signed ? { text } : { wrong: `it is not signed by ${verifier.vkey}` };
}

/** A tree's head, https://c2sp.org/tlog-checkpoint. */
export interface Checkpoint {
  readonly origin: string;
  readonly size: number;
  readonly root: Buffer;
}

export function checkpointText({ origin, size, root }: Checkpoint): string {
  return `${origin}\n${size}\n${root.toString("base64")}\n`;
}

/** Reads a checkpoint's text; null where it is none. What lines it has beyond the third say nothing here. */
export function readCheckpoint(text: string): Checkpoint | null {
  const [origin = "", size = "", base64 = ""] = text.split("\n");
  const root = readBase64(base64);
  const number = readSize(size);
  if (origin === "" || number === null || root?.length !== 32) return null;
  return { origin, size: number, root };
}

/** A tree's size, as it is written; null: it is none that can be counted exactly. */
export function readSize(text: string): number | null {
  return /^(0|[1-9]\d{0,15})$/.test(text) && Number.isSafeInteger(Number(text)) ? Number(text) : null;
}

/** What a note says whose signatures nobody has looked at; null: it is no checkpoint. */
export function notedCheckpoint(note: string): Checkpoint | null {
  const end = note.lastIndexOf("\n\n");
  return end === -1 ? null : readCheckpoint(note.slice(0, end + 1));
}

/** null: it is no base64 of RFC 4648, section 4, written as it is to be. */
export function readBase64(text: string): Buffer | null {
  const bytes = Buffer.from(text, "base64");
  return bytes.toString("base64") === text ? bytes : null;
}
