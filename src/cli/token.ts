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
  const group = program.command("token").description("Tokens of callers.");
  group
    .command("add")
    .description(
      "Makes a token, adds the caller's line to the tokens' file, and prints the token: it is kept nowhere else.",
    )
    .argument("<name>", "the caller's name, as events have it")
    .requiredOption(
      "--scopes <scopes>",
      `what the caller may do, with commas between: ${SCOPES.join(", ")}; of some maps: read@/sys/fs/bpf/tc/*, write@block*`,
    )
    .addOption(
      new Option("--tokens <file>", "the tokens' file; made if it is not there")
        .env("MAPLEDGER_TOKENS")
        .makeOptionMandatory(),
    )
    .action((name: string, { scopes, tokens }: Options) => {
      process.stdout.write(`${add(tokens, name, scopes)}\n`);
    });
}

/** Answers the token. The file has the line when this returns, or is what it was. */
function add(file: string, name: string, scopes: string): string {
  const token = randomBytes(BYTES).toString("hex");
  const line = `${name}:${hash("sha256", token, "hex")}:${scopes}`;
  if (/[\r\n]/.test(line)) throw new Error("a name is one line");
  if (/^(uid|cert):/.test(name)) throw new Error(`${name} needs no token: write its line into ${file}`);
  const known = existsSync(file) ? readFileSync(file, "utf8") : "";
  const text = `${known}${known === "" || known.endsWith("\n") ? "" : "\n"}${line}\n`;
  if (scopes.trim() === "") throw new Error("there are no scopes");
  const added = parseTokens(`${line}\n`, "the new line").lines[0];
  if (added?.by !== "token" || added.name !== name) throw new Error(`${name} is no name that a token may have`);
  // What is wrong in it already would keep the service from reading it.
  parseTokens(text, file);
  replace(file, text);
  return token;
}

/** With the mode and the owner that it has, or the owner of its directory: the service may be another user. */
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
