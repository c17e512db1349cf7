/**
 * The subcommands of the command line. Only the module of the called one is loaded, which makes every call fast, and it
 * is loaded before the command does anything: a command that root calls becomes the owner of the data directory, who
 * may not be able to read the code.
 */

import type { Command } from "commander";
import type { Subcommand } from "./subcommand.ts";

/**
 * A row of `mapledger --help`, with the module of the subcommand. The module is loaded only if the subcommand is
 * called. null: the command is in bpftool's words (`bpftool/tree.ts`).
 */
interface Listed {
  /** Its name and arguments. */
  readonly usage: string;
  readonly description: string;
  readonly load: (() => Promise<Subcommand>) | null;
}

/** In the order of the help. A test compares each row with the command that its module adds. */
export const SUBCOMMANDS: readonly Listed[] = [
  {
    usage: "serve [options]",
    description:
      "Runs the service. With --read-only, serves reads of a data directory, a backup or an archive, for auditors.",
    load: async () => (await import("./serve.ts")).addServe,
  },
  {
    usage: "archive [options]",
    description:
      "Moves older events into compressed files. The state stays complete, and an event records the archived range.",
    load: async () => (await import("./archive.ts")).addArchive,
  },
  {
    usage: "backup [options] <dir>",
    description:
      "Copies the log as of one moment, and all other files that cannot be derived from it; the service may be running.",
    load: async () => (await import("./backup.ts")).addBackup,
  },
  {
    usage: "restore-backup [options] <dir>",
    description: "Makes a data directory from a backup. The next start builds the state from the log.",
    load: async () => (await import("./backup.ts")).addRestoreBackup,
  },
  {
    usage: "replay [options] [source]",
    description:
      "Sends recorded commands again, in their order, and reports each answer that differs from the recorded one; or prints the commands.",
    load: async () => (await import("./replay.ts")).addReplay,
  },
  {
    usage: "import [options] <file>",
    description: "Sends the commands of an NDJSON export to a mapledger: a replay from a file to a URL.",
    load: async () => (await import("./replay.ts")).addImport,
  },
  {
    usage: "verify [options] [data]",
    description:
      "Reads the whole log, computes hashes, tree, checkpoints and state anew, and names the first event that is wrong.",
    load: async () => (await import("./verify.ts")).addVerify,
  },
  {
    usage: "proof [options] <seq>",
    description: "Proves that an event is in the log, from the files of a data directory or an archive.",
    load: async () => (await import("./proof.ts")).addProof,
  },
  {
    usage: "verify-proof [options] <file>",
    description: "Checks a proof from GET /v1/events/{seq}/proof offline, and prints the event that it proves.",
    load: async () => (await import("./verify_proof.ts")).addVerifyProof,
  },
  {
    usage: "tree",
    description: "Commands for the log's Merkle tree.",
    load: async () => (await import("./tree.ts")).addTree,
  },
  {
    usage: "key",
    description: "Commands for the key that signs the log's checkpoints.",
    load: async () => (await import("./key.ts")).addKey,
  },
  {
    usage: "witness [options]",
    description: "Cosigns checkpoints of other machines' logs (C2SP tlog-witness).",
    load: async () => (await import("./witness.ts")).addWitness,
  },
  {
    usage: "take-over [options]",
    description: "Makes the kernel maps in the directory of pins follow this log, whatever log they followed before.",
    load: async () => (await import("./take_over.ts")).addTakeOver,
  },
  {
    usage: "mirror",
    description: "Commands for the kernel maps that follow the ledger's maps.",
    load: async () => (await import("./mirror.ts")).addMirror,
  },
  {
    usage: "token",
    description: "Commands for callers' tokens.",
    load: async () => (await import("./token.ts")).addToken,
  },
  {
    usage: "map",
    description: "Commands for maps and their elements at a running service, in bpftool's words: mapledger map help.",
    load: null,
  },
  {
    usage: "event",
    description: "Lists and follows the events of a running service: mapledger event help.",
    load: null,
  },
  { usage: "session", description: "Lists, opens and ends sessions: mapledger session help.", load: null },
  { usage: "batch file <file>", description: "Runs the commands of a file, in bpftool's words.", load: null },
  {
    usage: "completion <shell>",
    description: "Prints a script that completes words in bash, zsh or fish.",
    load: null,
  },
  { usage: "man", description: "Prints the man page, in roff.", load: null },
];

/** The service's own commands, beside those in bpftool's words. */
export const OWN_COMMANDS: readonly Listed[] = SUBCOMMANDS.filter(({ load }) => load !== null);
/** Their first words. */
export const OWN_WORDS: ReadonlySet<string> = new Set(OWN_COMMANDS.map(({ usage }) => nameIn(usage)));

/**
 * Adds all subcommands to the program: the called one from its module, the others with the text that the help shows.
 */
export async function addSubcommands(program: Command, words: readonly string[]): Promise<void> {
  const [first, second] = words.filter((word) => !word.startsWith("-"));
  const called = first === "help" ? second : first;
  for (const { usage, description, load } of SUBCOMMANDS)
    if (nameIn(usage) === called && load !== null) (await load())(program);
    else program.command(usage).description(description);
}

function nameIn(usage: string): string {
  return usage.split(" ", 1)[0] as string;
}
