import { randomBytes } from "node:crypto";
import { linkSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readSmall, sync } from "../files/contents.ts";
import { SOCKET_FILE, TOKEN_FILE } from "./layout.ts";

const BYTES = 32;
const MODE = 0o600;

/** The owner's token, by which he comes over TCP, and where it is. */
export interface OwnToken {
  readonly token: string;
  readonly file: string;
  /** Made at this start. */
  readonly isNew: boolean;
}

/** The token in a data directory, which the first start makes. Throws an Error that names the file if it has none. */
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

/** Where the unix socket is if nothing else is set. */
export function ownSocketFile(data: string): string {
  return join(data, SOCKET_FILE);
}

export function ownTokenFile(data: string): string {
  return join(data, TOKEN_FILE);
}

/** null: there is no such file. */
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
