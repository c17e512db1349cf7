import { Refused } from "../../../client/api.ts";
import type { Call } from "../call.ts";
import { lineOf } from "../change_text.ts";
import { Failure, refusal, WrongUsage } from "../failure.ts";
import { must, readKeywords } from "../keywords.ts";
import { pathOf, readReference } from "../map_reference.ts";
import type { Output } from "../output.ts";
import { readNumber } from "../words.ts";

/** MAP, "to" and a moment. */
const LEAST_WORDS = 4;
const U32_MAX = 2 ** 32 - 1;

interface Command {
  readonly cmd: string;
  readonly key: string | null;
  readonly value: string | null;
}

interface Restored {
  readonly map: number;
  readonly at: number;
  readonly dry_run: boolean;
  readonly added: number;
  readonly changed: number;
  readonly removed: number;
  readonly commands: readonly Command[];
  readonly command_count: number;
  readonly first_seq: number | null;
  readonly last_seq: number | null;
  readonly created: { readonly map_id: number } | null;
}

/** map restore MAP to MOMENT [reason TEXT] [session ID], with --dry-run */
export async function restore({ api, output, words, options }: Call): Promise<void> {
  if (words.left < LEAST_WORDS) throw new WrongUsage();
  const reference = readReference(words);
  const { to, reason, session } = readKeywords(words, { to: "MOMENT", reason: "TEXT", session: "ID" });
  const id = session === undefined ? null : readNumber(session, U32_MAX);
  if (session !== undefined && id === null) throw new Failure(`can't parse ${session} as ID`);
  let answer: Restored;
  try {
    answer = await api.send<Restored>("POST", `${pathOf(reference)}/restore`, {
      at: must(to, "to"),
      dry_run: options.dryRun,
      ...(reason !== undefined && { reason }),
      ...(id !== null && { session: id }),
    });
  } catch (error) {
    throw error instanceof Refused ? refusal("restore failed", error) : error;
  }
  if (output.json === null) print(output, answer);
  else output.json.value(answer);
}

function print(output: Output, answer: Restored): void {
  const { map, at, added, changed, removed, command_count: count, commands, created } = answer;
  const counts = `${added} added, ${changed} changed, ${removed} removed`;
  if (answer.dry_run) {
    output.line(`map ${map} would be as of event ${at}: ${counts}; ${count} commands`, "bold");
    for (const command of commands) output.line(commandText(command));
    if (count > commands.length) output.line(`... and ${count - commands.length} more`);
    return;
  }
  const events =
    answer.first_seq === null ? "no command was needed" : `events ${answer.first_seq} to ${answer.last_seq}`;
  output.line(`map ${map} is as of event ${at}: ${counts}; ${events}`, "bold");
  if (created !== null) output.line(`it was freed, and is map ${created.map_id} now`);
}

function commandText({ cmd, key, value }: Command): string {
  const keyText = key === null ? "" : `  key: ${lineOf(key)}`;
  return `${cmd}${keyText}${value === null ? "" : `  value: ${lineOf(value)}`}`;
}
