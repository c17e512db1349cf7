/** Witnesses' cosignatures of checkpoints, with Ed25519 or ML-DSA-44 keys: https://c2sp.org/tlog-cosignature. */

import { createPublicKey, hash, type KeyObject, sign, verify } from "node:crypto";
import { type Checkpoint, isKeyName, noteParts, readBase64, readCheckpoint, signatureLine } from "./note.ts";

const ID_BYTES = 4;
const TIME_BYTES = 8;
/** The longest name or origin that an ML-DSA-44 cosignature can sign: its message has one byte for each length. */
const OPAQUE_BYTES_MAX = 255;

/**
 * The algorithm and the sizes of each signature type, by the type's number. `spki`: the DER bytes before the raw key.
 */
const TYPES = {
  4: { name: "ed25519", keyBytes: 32, signatureBytes: 64, spki: "302a300506032b6570032100" },
  6: {
    name: "ml-dsa-44",
    keyBytes: 1312,
    signatureBytes: 2420,
    spki: "30820532300b06096086480165030403110382052100",
  },
} as const;

type Type = keyof typeof TYPES;

/** node:crypto's names of the algorithms that a witness may sign with. */
export const COSIGNING = [TYPES[4].name, TYPES[6].name] as const;

/** A witness' public key, as verifiers know it. */
export interface WitnessKey {
  readonly name: string;
  readonly vkey: string;
  readonly type: Type;
  readonly id: Buffer;
  readonly key: KeyObject;
}

export interface WitnessSigner extends WitnessKey {
  readonly privateKey: KeyObject;
}

/** A cosignature that has been verified. */
export interface Cosignature {
  readonly witness: WitnessKey;
  /** Seconds since the epoch. */
  readonly time: bigint;
  /** Key id (4 bytes), time (8) and signature: the bytes that the note's line has in base64. */
  readonly bytes: Buffer;
}

/**
 * A signer with an Ed25519 or ML-DSA-44 key. Throws if the key is of another type. A key used here must sign nothing
 * else.
 */
export function witnessSigner(name: string, privateKey: KeyObject): WitnessSigner {
  const type = Object.entries(TYPES).find(([, { name: algorithm }]) => algorithm === privateKey.asymmetricKeyType)?.[0];
  if (type === undefined)
    throw new Error(`a key of type ${privateKey.asymmetricKeyType} cannot cosign: Ed25519 or ML-DSA-44 required`);
  const { keyBytes } = TYPES[Number(type) as Type];
  const spki = createPublicKey(privateKey).export({ type: "spki", format: "der" });
  const typed = Buffer.concat([Buffer.from([Number(type)]), spki.subarray(-keyBytes)]);
  const vkey = `${name}+${keyId(name, typed).toString("hex")}+${typed.toString("base64")}`;
  return { ...(readWitnessKey(vkey) as WitnessKey), privateKey };
}

/** The signature line that a witness adds to the note of `text`. `time`: seconds since the epoch. */
export function cosign(text: string, checkpoint: Checkpoint, signer: WitnessSigner, time: bigint): string {
  const message = cosignedMessage(text, checkpoint, signer, time);
  const stamp = Buffer.alloc(TIME_BYTES);
  stamp.writeBigUInt64BE(time);
  return signatureLine(signer.name, Buffer.concat([signer.id, stamp, sign(null, message, signer.privateKey)]));
}

/** Whether a log's origin is short enough for witnesses to cosign its checkpoints. */
export function canBeCosigned(origin: string): boolean {
  return Buffer.byteLength(origin) <= OPAQUE_BYTES_MAX;
}

/** Reads a witness' verifier key; null if the text is not one of an Ed25519 or ML-DSA-44 key. */
export function readWitnessKey(text: string): WitnessKey | null {
  const [, name = "", id, base64 = ""] = /^([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/.exec(text) ?? [];
  const typed = readBase64(base64);
  const type = typed?.[0];
  if (!isKeyName(name) || typed === null || (type !== 4 && type !== 6)) return null;
  const { keyBytes, spki } = TYPES[type];
  if (typed.length !== 1 + keyBytes) return null;
  const idBytes = keyId(name, typed);
  if (idBytes.toString("hex") !== id || Buffer.byteLength(name) > OPAQUE_BYTES_MAX) return null;
  const der = Buffer.concat([Buffer.from(spki, "hex"), typed.subarray(1)]);
  return { name, vkey: text, type, id: idBytes, key: createPublicKey({ key: der, format: "der", type: "spki" }) };
}

function keyId(name: string, typed: Buffer): Buffer {
  return hash("sha256", Buffer.concat([Buffer.from(`${name}\n`), typed]), "buffer").subarray(0, ID_BYTES);
}

/** The bytes that a witness signs for a checkpoint. `time`: seconds since the epoch. */
export function cosignedMessage(
  text: string,
  checkpoint: Checkpoint,
  { type, name }: Pick<WitnessKey, "type" | "name">,
  time: bigint,
): Buffer {
  if (type === 4) return Buffer.from(`cosignature/v1\ntime ${time}\n${text}`);
  const numbers = (...values: bigint[]): Buffer => {
    const bytes = Buffer.alloc(8 * values.length);
    values.forEach((value, at) => void bytes.writeBigUInt64BE(value, 8 * at));
    return bytes;
  };
  const { origin, size, root } = checkpoint;
  return Buffer.concat([
    Buffer.from("subtree/v1\n\0"),
    opaque(name),
    numbers(time),
    opaque(origin),
    numbers(0n, BigInt(size)),
    root,
  ]);
}

/** The verified cosignatures in a note, at most one for each of the witnesses' keys; others are ignored. */
export function cosignaturesIn(note: string, witnesses: readonly WitnessKey[]): Cosignature[] {
  const parts = noteParts(note);
  const checkpoint = "wrong" in parts ? null : readCheckpoint(parts.text);
  if ("wrong" in parts || checkpoint === null) return [];
  return witnesses.flatMap((witness) => {
    for (const { name, signature } of parts.signatures) {
      if (name !== witness.name || !signature.subarray(0, ID_BYTES).equals(witness.id)) continue;
      const time = heldTime(signature.subarray(ID_BYTES), parts.text, checkpoint, witness);
      if (time !== null) return [{ witness, time, bytes: signature }];
    }
    return [];
  });
}

/** The number of witnesses that have cosigned; a witness with several keys counts once. */
export function countWitnesses(witnesses: Iterable<Pick<WitnessKey, "name">>): number {
  return new Set(Array.from(witnesses, ({ name }) => name)).size;
}

/** The time of a cosignature in seconds since the epoch; null if it does not verify. */
function heldTime(bytes: Buffer, text: string, checkpoint: Checkpoint, witness: WitnessKey): bigint | null {
  if (bytes.length !== TIME_BYTES + TYPES[witness.type].signatureBytes || !canBeCosigned(checkpoint.origin))
    return null;
  const time = bytes.readBigUInt64BE();
  if (time >= 2n ** 63n) return null;
  const message = cosignedMessage(text, checkpoint, witness, time);
  return verify(null, message, witness.key, bytes.subarray(TIME_BYTES)) ? time : null;
}

/** The text's UTF-8 bytes after one byte with their number. */
function opaque(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.from([bytes.length]), bytes]);
}
