import type { Command } from "commander";
import type { Subcommand } from "./subcommand.ts";

/** What `mapledger --help` shows of a subcommand, and its module, which is loaded when it is called. */
interface Listed {
  /** Its name and what may stand behind it. */
  readonly usage: string;
  readonly description: string;
  readonly load: () => Promise<Subcommand>;
}

/** In the order of the help. A test holds each row to what the module itself says. */
export const SUBCOMMANDS: readonly Listed[] = [
  {
    usage: "serve [options]",
    description: "Runs the service; or, for an auditor, serves reads of a data directory, a backup or an archive.",
    load: async () => (await import("./serve.ts")).addServe,
  },
  {
    usage: "archive [options]",
    description: "Moves older events to compressed files; the state stays, and the log says what was archived.",
    load: async () => (await import("./archive.ts")).addArchive,
  },
  {
    usage: "backup [options] <dir>",
    description: "Copies the log, and what else cannot be made again, as of one moment; the service may run meanwhile.",
    load: async () => (await import("./backup.ts")).addBackup,
  },
  {
    usage: "restore-backup [options] <dir>",
    description: "Makes a data directory of a backup; the state is made from the log at the next start.",
    load: async () => (await import("./backup.ts")).addRestoreBackup,
  },
  {
    usage: "replay [options] [source]",
    description:
      "Replays recorded commands, in their order, and reports every answer that differs from the recorded one.",
    load: async () => (await import("./replay.ts")).addReplay,
  },
  {
    usage: "import [options] <file>",
    description: "Sends the commands of an NDJSON export to a mapledger: replay, of a file, to a URL.",
    load: async () => (await import("./replay.ts")).addImport,
  },
  {
    usage: "verify [options] [data]",
    description:
      "Reads the whole log and computes everything anew: hashes, tree, checkpoints, state. Names the first event that is wrong.",
    load: async () => (await import("./verify.ts")).addVerify,
  },
  {
    usage: "proof [options] <seq>",
    description: "Makes a proof that an event is in the log, of a data directory's files or of an archive's.",
    load: async () => (await import("./proof.ts")).addProof,
  },
  {
    usage: "verify-proof [options] <file>",
    description: "Checks a proof of GET /v1/events/{seq}/proof offline, and shows the event that it proves.",
    load: async () => (await import("./verify_proof.ts")).addVerifyProof,
  },
  {
    usage: "tree",
    description: "Orders about the log's Merkle tree.",
    load: async () => (await import("./tree.ts")).addTree,
  },
  {
    usage: "key",
    description: "Orders about the key that signs the log's checkpoints.",
    load: async () => (await import("./key.ts")).addKey,
  },
  {
    usage: "witness [options]",
    description: "Cosigns checkpoints of other machines' logs (C2SP tlog-witness).",
    load: async () => (await import("./witness.ts")).addWitness,
  },
  {
    usage: "take-over [options]",
    description: "Makes the kernel maps in the directory of pins follow this log, whichever log they followed before.",
    load: async () => (await import("./take_over.ts")).addTakeOver,
  },
  {
    usage: "mirror",
    description: "Orders about the kernel maps that follow the ledger's maps.",
    load: async () => (await import("./mirror.ts")).addMirror,
  },
  {
    usage: "map",
    description: "Orders about one map.",
    load: async () => (await import("./mirror.ts")).addMap,
  },
  {
    usage: "token",
    description: "Tokens of callers.",
    load: async () => (await import("./token.ts")).addToken,
  },
];

/** Adds all of them: the one that the words call as it is, of the others what the help lists. */
export async function addSubcommands(program: Command, words: readonly string[]): Promise<void> {
  const [first, second] = words.filter((word) => !word.startsWith("-"));
  const called = first === "help" ? second : first;
  for (const { usage, description, load } of SUBCOMMANDS)
    if (nameIn(usage) === called) (await load())(program);
    else program.command(usage).description(description);
}

function nameIn(usage: string): string {
  return usage.split(" ", 1)[0] as string;
}
