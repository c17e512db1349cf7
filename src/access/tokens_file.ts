import { ANONYMOUS, type Caller, OWNER, SERVICE_NAME } from "./caller.ts";
import { mapLimitsOf } from "./map_limits.ts";
import { ALL_SCOPES, parseGrants } from "./scopes.ts";

/** One line of the tokens file: how a caller is recognised, its name and its scopes. */
export type Line = Caller &
  (
    | { readonly by: "token"; readonly digest: Buffer }
    | { readonly by: "uid"; readonly uid: number }
    | { readonly by: "certificate"; readonly subject: string }
  );

/** `warnings`: lines that are allowed but may not be intended, for the operator. */
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
 * Reads a tokens file. Each line is one of
 *
 *   name:sha256:scopes  sha256: of the token's bytes, in hex; one name may have several tokens
 *   uid:N:scopes        a user who connects to the unix socket
 *   cert:NAME:scopes    a client whose certificate has this name
 *
 * Scopes are separated by commas; those on maps may have a glob, as in `write@block*`. A line without scopes allows
 * everything, with a warning. Empty lines and lines that begin with # are ignored. Throws an Error that names file and
 * line.
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
        throw new Error("the last line has neither scopes nor a newline: the file may be cut off");
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
    if (digits === "" || uid > UID_MAX) throw new Error(`uid:N:scopes required, with N from 0 to ${UID_MAX}`);
    return { by: "uid", uid, name: `${UID}${uid}`, ...allowed(rest) };
  }
  if (line.startsWith(CERT)) return readCertificate(line.slice(CERT.length));
  const [, name, digits, rest] = /^(.*?):\s*([0-9a-f]{64})\s*(?::(.*))?$/i.exec(line) ?? [];
  if (name === undefined || digits === undefined) throw new Error(`a line is ${FORMS}; the SHA-256 has 64 hex digits`);
  return { by: "token", digest: Buffer.from(digits, "hex"), name: checkName(name.trim()), ...allowed(rest) };
}

/** The scopes begin after the last colon: a certificate's name may be a URI with colons. */
function readCertificate(text: string): Line {
  const colon = text.lastIndexOf(":");
  const subject = text.slice(0, Math.max(colon, 0)).trim();
  if (subject === "") throw new Error(`cert:NAME:scopes required, with the name in a client's certificate`);
  const name = checkLength(`${CERT}${subject}`);
  return { by: "certificate", subject, name, ...allowed(text.slice(colon + 1)) };
}

function checkName(name: string): string {
  if (RESERVED.includes(name)) throw new Error(`${name} is reserved for the service`);
  return checkLength(name);
}

function checkLength(name: string): string {
  const bytes = Buffer.byteLength(name);
  if (bytes < 1 || bytes > NAME_BYTES_MAX) throw new Error(`a name has 1 to ${NAME_BYTES_MAX} bytes, found ${bytes}`);
  return name;
}

/** The scopes of a line. Without any: ALL_SCOPES, the same object, which `parseTokens` compares by identity. */
function allowed(text: string | undefined): Pick<Caller, "scopes" | "limits"> {
  if (text === undefined || text.trim() === "") return { scopes: ALL_SCOPES };
  const grants = parseGrants(text);
  const limits = mapLimitsOf(grants);
  return { scopes: new Set(grants.map(({ scope }) => scope)), ...(limits !== null && { limits }) };
}
