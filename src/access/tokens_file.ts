import { ANONYMOUS, type Caller, OWNER, SERVICE_NAME } from "./caller.ts";
import { mapLimitsOf } from "./map_limits.ts";
import { ALL_SCOPES, parseGrants } from "./scopes.ts";

/** What a line of the tokens' file says: how a caller is known, his name, and what he may do. */
export type Line = Caller &
  (
    | { readonly by: "token"; readonly digest: Buffer }
    | { readonly by: "uid"; readonly uid: number }
    | { readonly by: "certificate"; readonly subject: string }
  );

/** The lines of a tokens' file, and what is told to an operator about them. */
export interface TokensFile {
  readonly lines: readonly Line[];
  readonly warnings: readonly string[];
}

const NAME_BYTES_MAX = 255;
const UID_MAX = 2 ** 32 - 2;
const UID = "uid:";
const CERT = "cert:";
const RESERVED: readonly string[] = [OWNER.name, ANONYMOUS.name, SERVICE_NAME];
const FORMS = "name:sha256:scopes, uid:N:scopes or cert:NAME:scopes";

/**
 * Reads a tokens' file. A line is `name:sha256:scopes`, the hash in hex of the token's bytes; `uid:N:scopes`, a user who comes
 * over the unix socket; or `cert:NAME:scopes`, whom a client's certificate names. Scopes have commas between them, and those of maps
 * may have a glob, as in `write@block*`; a line without scopes allows everything, which a warning tells. Empty lines and lines that begin with # say nothing. A name may have
 * several tokens. Throws an Error that names the file and the line.
 */
export function parseTokens(text: string, file: string): TokensFile {
  const lines: Line[] = [];
  const warnings: string[] = [];
  const all = text.split("\n");
  for (const [at, given] of all.entries()) {
    const line = given.trim();
    if (line === "" || line.startsWith("#")) continue;
    try {
      const read = readLine(line);
      if (read.scopes === ALL_SCOPES && at === all.length - 1)
        throw new Error("it has neither scopes nor a line's end: is it whole?");
      lines.push(read);
      if (read.scopes === ALL_SCOPES) warnings.push(`${file}:${at + 1}: without scopes ${read.name} may do everything`);
    } catch (error) {
      throw new Error(`${file}:${at + 1}: ${(error as Error).message}`);
    }
  }
  return { lines, warnings };
}

function readLine(line: string): Line {
  if (line.startsWith(UID)) {
    const [, digits = "", rest] = /^uid:(\d{1,10})(?::(.*))?$/.exec(line) ?? [];
    const uid = Number(digits);
    if (digits === "" || uid > UID_MAX) throw new Error(`"uid:", a uid and ":scopes" are needed`);
    return { by: "uid", uid, name: `${UID}${uid}`, ...allowed(rest) };
  }
  if (line.startsWith(CERT)) return readCertificate(line.slice(CERT.length));
  const [, name, digits, rest] = /^(.*?):\s*([0-9a-f]{64})\s*(?::(.*))?$/i.exec(line) ?? [];
  if (name === undefined || digits === undefined) throw new Error(`a line is ${FORMS}; the SHA-256 has 64 hex digits`);
  return { by: "token", digest: Buffer.from(digits, "hex"), name: checkName(name.trim()), ...allowed(rest) };
}

/** A URI has colons of its own: scopes stand behind the last. */
function readCertificate(text: string): Line {
  const colon = text.lastIndexOf(":");
  const subject = text.slice(0, Math.max(colon, 0)).trim();
  if (subject === "") throw new Error(`"cert:", a certificate's name and ":scopes" are needed`);
  const name = checkLength(`${CERT}${subject}`);
  return { by: "certificate", subject, name, ...allowed(text.slice(colon + 1)) };
}

function checkName(name: string): string {
  if (RESERVED.includes(name)) throw new Error(`${name} is a name of the service's own`);
  return checkLength(name);
}

function checkLength(name: string): string {
  const bytes = Buffer.byteLength(name);
  if (bytes < 1 || bytes > NAME_BYTES_MAX) throw new Error(`a name has 1 to ${NAME_BYTES_MAX} bytes, found ${bytes}`);
  return name;
}

/** ALL_SCOPES itself where none are given. */
function allowed(text: string | undefined): Pick<Caller, "scopes" | "limits"> {
  if (text === undefined || text.trim() === "") return { scopes: ALL_SCOPES };
  const grants = parseGrants(text);
  const limits = mapLimitsOf(grants);
  return { scopes: new Set(grants.map(({ scope }) => scope)), ...(limits !== null && { limits }) };
}
