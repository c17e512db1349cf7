/** The owner's access to a service: a token in the data directory, and the default path of the unix socket. */

import { randomBytes } from "node:crypto";
import { linkSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readSmall, sync } from "../files/contents.ts";
import { TOKEN_FILE } from "./layout.ts";

const BYTES = 32;
const MODE = 0o600;

/** The owner's token for TCP, and its file. */
export interface OwnToken {
  readonly token: string;
  readonly file: string;
  /** Whether this start has made the token. */
  readonly isNew: boolean;
}

/**
 * Reads the token of a data directory, or makes it at the first start. Throws an Error that names the file if it has no
 * token.
 */
export function ownToken(data: string): OwnToken {
  const file = ownTokenFile(data);
  const known = readOwnToken(file);
  if (known !== null) return { token: known, file, isNew: false };
  const partial = `${file}.${process.pid}.partial`;
  const token = randomBytes(BYTES).toString("hex");
  try {
    writeFileSync(partial, `${token}\n`, { mode: MODE, flag: "wx", flush: true });
    linkSync(partial, file);
  } finally {
    rmSync(partial, { force: true });
  }
  sync(data);
  return { token, file, isNew: true };
}

export function ownTokenFile(data: string): string {
  return join(data, TOKEN_FILE);
}

/** null: the file does not exist. */
export function readOwnToken(file: string): string | null {
  let text: string;
  try {
    text = readSmall(file).toString();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
  const token = text.trim();
  if (/^[\x21-\x7e]{16,}$/.test(token)) return token;
  throw new Error(`${file} has no token of 16 or more printable characters: remove it, and the next start makes one`);
}
