import { hash, randomBytes } from "node:crypto";
import { chmodSync, chownSync, existsSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { type Command, Option } from "commander";
import { SCOPES } from "../access/scopes.ts";
import { parseTokens } from "../access/tokens_file.ts";
import { sync } from "../files/contents.ts";
import { foreignOwner, giveTo } from "../files/owner.ts";

interface Options {
  readonly scopes: string;
  readonly tokens: string;
}

const BYTES = 32;
const MODE = 0o600;

export function addToken(program: Command): void {
  const group = program.command("token").description("Commands for callers' tokens.");
  group
    .command("add")
    .description(
      "Makes a token, adds the caller's line to the tokens file, and prints the token, which is not stored anywhere.",
    )
    .argument("<name>", "the caller's name, which events record")
    .requiredOption(
      "--scopes <scopes>",
      `scopes of the caller, separated by commas: ${SCOPES.join(", ")}; for some maps only: read@/sys/fs/bpf/tc/*, write@block*`,
    )
    .addOption(
      new Option("--tokens <file>", "the tokens file; it is made if it does not exist")
        .env("MAPLEDGER_TOKENS")
        .makeOptionMandatory(),
    )
    .action((name: string, { scopes, tokens }: Options) => {
      process.stdout.write(`${add(tokens, name, scopes)}\n`);
    });
}

/** Returns the new token. When this returns, the file has the new line; if it throws, the file is unchanged. */
function add(file: string, name: string, scopes: string): string {
  const token = randomBytes(BYTES).toString("hex");
  const line = `${name}:${hash("sha256", token, "hex")}:${scopes}`;
  if (/[\r\n]/.test(line)) throw new Error("a name and its scopes must be on one line");
  if (/^(uid|cert):/.test(name)) throw new Error(`${name} needs no token: write its line into ${file} yourself`);
  const known = existsSync(file) ? readFileSync(file, "utf8") : "";
  const text = `${known}${known === "" || known.endsWith("\n") ? "" : "\n"}${line}\n`;
  if (scopes.trim() === "") throw new Error("at least one scope is needed");
  const added = parseTokens(`${line}\n`, "the new line").lines[0];
  if (added?.by !== "token" || added.name !== name)
    throw new Error(`${name} is not a valid name of a caller with a token`);
  // The whole file is parsed, because a line that is already wrong would keep the service from reading it.
  parseTokens(text, file);
  replace(file, text);
  return token;
}

/**
 * Replaces the file atomically. It keeps its mode and owner; a new file gets the owner of its directory, because the
 * service may run as another user.
 */
function replace(file: string, text: string): void {
  const partial = `${file}.${process.pid}.partial`;
  try {
    writeFileSync(partial, text, { mode: MODE, flag: "wx", flush: true });
    if (existsSync(file)) {
      const { mode, uid, gid } = statSync(file);
      chownSync(partial, uid, gid);
      chmodSync(partial, mode & 0o777);
    } else giveTo(foreignOwner(dirname(file)), partial);
    renameSync(partial, file);
  } finally {
    rmSync(partial, { force: true });
  }
  sync(dirname(file));
}
