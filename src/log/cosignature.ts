import { createPublicKey, hash, type KeyObject, verify } from "node:crypto";
import { type Checkpoint, isKeyName, noteParts, readBase64, readCheckpoint } from "./note.ts";

/** Witnesses' cosignatures of checkpoints, of both types: https://c2sp.org/tlog-cosignature. */

const ID_BYTES = 4;
const TIME_BYTES = 8;

/** What each type of signature is made with, by its number. */
const TYPES = {
  4: { name: "Ed25519", keyBytes: 32, signatureBytes: 64, spki: "302a300506032b6570032100" },
  6: {
    name: "ML-DSA-44",
    keyBytes: 1312,
    signatureBytes: 2420,
    spki: "30820532300b06096086480165030403110382052100",
  },
} as const;

type Type = keyof typeof TYPES;

/** Who cosigns, as those who verify know it. */
export interface WitnessKey {
  readonly name: string;
  readonly vkey: string;
  readonly type: Type;
  readonly id: Buffer;
  readonly key: KeyObject;
}

/** Reads a witness' verifier key; null: the text is none of either type. */
export function readWitnessKey(text: string): WitnessKey | null {
  const [, name = "", id, base64 = ""] = /^([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/.exec(text) ?? [];
  const typed = readBase64(base64);
  const type = typed?.[0];
  if (!isKeyName(name) || typed === null || (type !== 4 && type !== 6)) return null;
  const { keyBytes, spki } = TYPES[type];
  if (typed.length !== 1 + keyBytes) return null;
  const idBytes = hash("sha256", Buffer.concat([Buffer.from(`${name}\n`), typed]), "buffer").subarray(0, ID_BYTES);
  if (idBytes.toString("hex") !== id) return null;
  const der = Buffer.concat([Buffer.from(spki, "hex"), typed.subarray(1)]);
  return { name, vkey: text, type, id: idBytes, key: createPublicKey({ key: der, format: "der", type: "spki" }) };
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

/** Which of the witnesses have cosigned a note's checkpoint; a cosignature that does not hold counts for nothing. */
export function cosignersOf(note: string, witnesses: readonly WitnessKey[]): WitnessKey[] {
  const parts = noteParts(note);
  const checkpoint = "wrong" in parts ? null : readCheckpoint(parts.text);
  if ("wrong" in parts || checkpoint === null) return [];
  return witnesses.filter((witness) =>
    parts.signatures.some(({ name, signature }) => {
      if (name !== witness.name || !signature.subarray(0, ID_BYTES).equals(witness.id)) return false;
      return holds(signature.subarray(ID_BYTES), parts.text, checkpoint, witness);
    }),
  );
}

function holds(bytes: Buffer, text: string, checkpoint: Checkpoint, witness: WitnessKey): boolean {
  if (bytes.length !== TIME_BYTES + TYPES[witness.type].signatureBytes) return false;
  const time = bytes.readBigUInt64BE();
  if (time >= 2n ** 63n) return false;
  const message = cosignedMessage(text, checkpoint, witness, time);
  return verify(null, message, witness.key, bytes.subarray(TIME_BYTES));
}

/** A text with its length before it, in a byte. */
function opaque(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.from([bytes.length]), bytes]);
}
