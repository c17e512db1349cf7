import { createPublicKey, hash, type KeyObject, sign, verify } from "node:crypto";
import { type Checkpoint, isKeyName, noteParts, readBase64, readCheckpoint, signatureLine } from "./note.ts";

/** Witnesses' cosignatures of checkpoints, of both types: https://c2sp.org/tlog-cosignature. */

const ID_BYTES = 4;
const TIME_BYTES = 8;
/** A name, or an origin, that an ML-DSA-44 cosignature can be of: its length is a byte. */
const OPAQUE_BYTES_MAX = 255;

/** What each type of signature is made with, by its number. */
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

/** What node:crypto calls the algorithms. */
export const COSIGNING = [TYPES[4].name, TYPES[6].name] as const;

/** Who cosigns, as those who verify know it. */
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

/** A cosignature that holds. */
export interface Cosignature {
  readonly witness: WitnessKey;
  /** Seconds since the epoch. */
  readonly time: bigint;
  /** The id of the key, the time and the signature, as a note's line has them. */
  readonly bytes: Buffer;
}

/** Signs with an Ed25519 or an ML-DSA-44 key, which signs nothing else. Throws where the key is another one. */
export function witnessSigner(name: string, privateKey: KeyObject): WitnessSigner {
  const type = Object.entries(TYPES).find(([, { name: algorithm }]) => algorithm === privateKey.asymmetricKeyType)?.[0];
  if (type === undefined) throw new Error(`no cosignature is made with a key of type ${privateKey.asymmetricKeyType}`);
  const { keyBytes } = TYPES[Number(type) as Type];
  const spki = createPublicKey(privateKey).export({ type: "spki", format: "der" });
  const typed = Buffer.concat([Buffer.from([Number(type)]), spki.subarray(-keyBytes)]);
  const vkey = `${name}+${keyId(name, typed).toString("hex")}+${typed.toString("base64")}`;
  return { ...(readWitnessKey(vkey) as WitnessKey), privateKey };
}

/** The line that a witness adds to a note of that text at a time, in seconds since the epoch. */
export function cosign(text: string, checkpoint: Checkpoint, signer: WitnessSigner, time: bigint): string {
  const message = cosignedMessage(text, checkpoint, signer, time);
  const stamp = Buffer.alloc(TIME_BYTES);
  stamp.writeBigUInt64BE(time);
  return signatureLine(signer.name, Buffer.concat([signer.id, stamp, sign(null, message, signer.privateKey)]));
}

/** Whether witnesses can cosign a log's checkpoints. */
export function canBeCosigned(origin: string): boolean {
  return Buffer.byteLength(origin) <= OPAQUE_BYTES_MAX;
}

/** Reads a witness' verifier key; null: the text is none of either type. */
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

/** What a witness has signed of a checkpoint at a time, in seconds since the epoch. */
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

/** A note's cosignatures by these witnesses, of each key one; one that does not hold counts for nothing. */
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

/** How many of the witnesses have cosigned: one that has several keys is one. */
export function countWitnesses(witnesses: Iterable<Pick<WitnessKey, "name">>): number {
  return new Set(Array.from(witnesses, ({ name }) => name)).size;
}

/** When a cosignature was made; null: it does not hold. */
function heldTime(bytes: Buffer, text: string, checkpoint: Checkpoint, witness: WitnessKey): bigint | null {
  if (bytes.length !== TIME_BYTES + TYPES[witness.type].signatureBytes || !canBeCosigned(checkpoint.origin))
    return null;
  const time = bytes.readBigUInt64BE();
  if (time >= 2n ** 63n) return null;
  const message = cosignedMessage(text, checkpoint, witness, time);
  return verify(null, message, witness.key, bytes.subarray(TIME_BYTES)) ? time : null;
}

/** A text with its length before it, in a byte. */
function opaque(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.from([bytes.length]), bytes]);
}
