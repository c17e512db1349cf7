import { generateKeyPairSync, hash, sign } from "node:crypto";
import { cosignedMessage } from "../../src/tlog/cosignature.ts";
import { type Checkpoint, noteParts, readCheckpoint } from "../../src/tlog/note.ts";

/** Seconds since the epoch. */
const TIME = 1_767_225_600n;

const KEY_BYTES = { ed25519: 32, "ml-dsa-44": 1312 } as const;
const TYPE = { ed25519: 4, "ml-dsa-44": 6 } as const;

/** A witness with a key of its own: its vkey, and the line that it adds to a note. */
export function newWitness(
  name: string,
  algorithm: keyof typeof TYPE,
): { readonly vkey: string; line(note: string): string } {
  const { publicKey, privateKey } = generateKeyPairSync(algorithm as "ed25519");
  const type = TYPE[algorithm];
  const spki = publicKey.export({ type: "spki", format: "der" });
  const typed = Buffer.concat([Buffer.from([type]), spki.subarray(-KEY_BYTES[algorithm])]);
  const id = hash("sha256", Buffer.concat([Buffer.from(`${name}\n`), typed]), "buffer").subarray(0, 4);
  return {
    vkey: `${name}+${id.toString("hex")}+${typed.toString("base64")}`,
    line(note) {
      const parts = noteParts(note);
      if ("wrong" in parts) throw new Error(parts.wrong);
      const time = Buffer.alloc(8);
      time.writeBigUInt64BE(TIME);
      const message = cosignedMessage(parts.text, readCheckpoint(parts.text) as Checkpoint, { type, name }, TIME);
      const signature = Buffer.concat([id, time, sign(null, message, privateKey)]);
      return `\u2014 ${name} ${signature.toString("base64")}\n`;
    },
  };
}
