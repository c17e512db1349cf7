import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { type Command, InvalidArgumentError, Option } from "commander";
import { visible } from "../codec/visible.ts";
import { canBeCosigned } from "../tlog/cosignature.ts";
import { isKeyName, readVkey, type Verifier } from "../tlog/note.ts";
import { openWitness } from "../witness/open.ts";
import { witnessServer } from "../witness/server.ts";
import { EXIT } from "./subcommand.ts";

interface Options {
  readonly data: string;
  readonly name?: string;
  readonly listen: { readonly host: string; readonly port: number };
  readonly log: readonly Verifier[];
  readonly logs?: readonly Verifier[];
}

const MORE = `
A witness knows logs by their verifier keys (\`vkey\` of GET /v1/log), whose names are the logs'
origins; a log that has changed its key has two lines for a while. For each log the witness
keeps the checkpoint that it cosigned last, and cosigns only a checkpoint that provably
continues that one. Its own keys, one for each type of cosignature (Ed25519 and ML-DSA-44),
are made at the first start and printed at every start; give both to the logs
(MAPLEDGER_WITNESSES) and to those who verify them.

Run the witness on another machine than the logs, and keep its directory: if its record of
cosigned checkpoints is lost, it refuses to start. Do not restore the directory from a backup:
the witness would not know its latest cosignatures. It does not speak TLS: if others can read
the network, use a proxy that does. GET / lists its keys and each log's latest checkpoint;
GET /HASH/checkpoint returns the latest checkpoint of one log.`;

export function addWitness(program: Command): void {
  program
    .command("witness")
    .description("Cosigns checkpoints of other machines' logs (C2SP tlog-witness).")
    .option("--data <dir>", "directory of the witness, which is made if it does not exist", "./witness")
    .addOption(
      new Option("--name <name>", "name of the witness in its cosignatures, needed at the first start").argParser(
        readName,
      ),
    )
    .addOption(
      new Option("--listen <host:port>", "address to listen on; port 0 takes a free port")
        .argParser(readListen)
        .default({ host: "127.0.0.1", port: 8630 }, "127.0.0.1:8630"),
    )
    .addOption(
      new Option("--log <vkey>", "verifier key of a log, or a file with it; may be repeated")
        .argParser((given: string, before: readonly Verifier[]) => [...before, readLog(given)])
        .default([], "none"),
    )
    .addOption(
      new Option("--logs <file>", "a file with a verifier key of a log on each line; # begins a comment").argParser(
        readLogs,
      ),
    )
    .addHelpText("after", MORE)
    .action(async ({ data, name, listen, log, logs }: Options, command: Command) => {
      const known = [...log, ...(logs ?? [])];
      if (known.length === 0)
        command.error("error: --log or --logs is needed: the witness knows no log", { exitCode: EXIT.usage });
      await run(data, name ?? null, listen, known);
    });
}

async function run(
  data: string,
  name: string | null,
  listen: Options["listen"],
  logs: readonly Verifier[],
): Promise<void> {
  const say = (line: string): void => void process.stdout.write(`${visible(line)}\n`);
  const opened = openWitness({ data, name, logs });
  try {
    const { witness } = opened;
    const app = witnessServer(witness, say);
    for (const vkey of witness.vkeys) say(`vkey ${vkey}`);
    for (const origin of witness.origins) say(`log ${origin}`);
    say(`listening on ${await app.listen(listen)}`);
    await Promise.race([once(process, "SIGINT"), once(process, "SIGTERM")]);
    await app.close();
  } finally {
    opened.close();
  }
}

function readName(given: string): string {
  if (isKeyName(given) && canBeCosigned(given)) return given;
  throw new InvalidArgumentError("A name without spaces and plus signs, of at most 255 bytes, is needed.");
}

function readListen(given: string): Options["listen"] {
  const [, ipv6, name, digits = ""] = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:\s]+)):(\d{1,5})$/.exec(given) ?? [];
  const host = ipv6 ?? name;
  if (host === undefined || Number(digits) > 65_535)
    throw new InvalidArgumentError("An address and a port are needed, such as 127.0.0.1:8630 or [::1]:8630.");
  return { host, port: Number(digits) };
}

function readLog(given: string): Verifier {
  const verifier = readVkey(existsSync(given) ? readFileSync(given, "utf8").trim() : given);
  if (verifier === null)
    throw new InvalidArgumentError("It is neither a verifier key of type Ed25519 nor a file that has one.");
  if (!canBeCosigned(verifier.name)) throw new InvalidArgumentError("An origin has at most 255 bytes.");
  return verifier;
}

function readLogs(file: string): readonly Verifier[] {
  const lines = readFileSync(file, "utf8").split("\n");
  return lines
    .map((line) => line.replace(/#.*/, "").trim())
    .filter((line) => line !== "")
    .map(readLog);
}
