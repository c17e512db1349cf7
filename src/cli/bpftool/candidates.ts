/** The words that may stand at the cursor, for the completion of shells. Lists of the service leave no events. */

import type { Call } from "./call.ts";
import type { Argument, Command } from "./description.ts";
import { allMaps } from "./map_reference.ts";
import { isValueOfOption, plainWords } from "./objects.ts";
import { OPTIONS } from "./options.ts";
import { ALONE, GROUPS, selected } from "./tree.ts";

const REFERENCES = ["id", "name", "pinned"];
const PAGE = 1000;

/** `words`: those after the program's name, up to the one at the cursor, which may be "". */
export async function candidates(call: Call, words: readonly string[]): Promise<readonly string[]> {
  const current = words.at(-1) ?? "";
  const before = words.slice(0, -1);
  if (isValueOfOption(words, words.length - 1)) return [];
  const all = current.startsWith("-")
    ? OPTIONS.map(({ long }) => `--${long}`)
    : await wordsAfter(call, plainWords(before));
  return [...new Set(all)].filter((word) => word.startsWith(current)).sort();
}

async function wordsAfter(call: Call, before: readonly string[]): Promise<readonly string[]> {
  const [first, second, ...rest] = before;
  if (first === undefined) {
    const others = call.about.others.map(({ usage }) => usage.split(" ", 1)[0] as string);
    return [...[...ALONE, ...GROUPS].map(({ word }) => word), ...others];
  }
  const alone: Command | undefined = ALONE.find(({ word }) => word === first);
  if (alone !== undefined) return afterArguments(call, alone, before.slice(1));
  const group = selected(GROUPS, first);
  if (group === undefined) return [];
  const { commands } = group;
  if (second === undefined) return [...commands.map(({ word }) => word), "help"];
  const command = selected(commands, second);
  return command === undefined ? [] : afterArguments(call, command, rest);
}

async function afterArguments(call: Call, command: Command, given: readonly string[]): Promise<readonly string[]> {
  const last = given.at(-1);
  const of = await referenceWords(call, command, given);
  if (of !== null) return of;
  const argument = command.arguments.find(({ word }) => word !== null && word === last);
  if (argument?.value === "MAP" || (argument?.value === "VALUE" && command.word === "update")) return REFERENCES;
  if (argument?.value != null) return argument.choices ?? [];
  return command.arguments.filter((one) => !isGiven(one, given)).flatMap(wordsOf);
}

/** The words of a MAP that has been begun, or that the command begins with; null: the cursor is not in one. */
async function referenceWords(
  call: Call,
  { arguments: all }: Command,
  given: readonly string[],
): Promise<readonly string[] | null> {
  const [first] = all;
  const last = given.at(-1) ?? "";
  const isBegun = first?.word === null && first.value === "MAP";
  if (isBegun && given.length === 0) return REFERENCES;
  const isAfterMap =
    (isBegun && given.length === 1) ||
    all.some(({ word, value }) => value === "MAP" && word !== null && word === given.at(-2));
  if (!isAfterMap && !(given.at(-2) === "value" && REFERENCES.includes(last))) return null;
  switch (last) {
    case "name":
      return (await maps(call)).map(({ name }) => name).filter((name) => name !== "");
    case "id":
      return (await maps(call)).map(({ id }) => String(id));
    case "pinned":
      return pins(call);
    default:
      return null;
  }
}

function isGiven({ word }: Argument, given: readonly string[]): boolean {
  return word !== null && given.includes(word);
}

function wordsOf({ word, value, choices }: Argument): readonly string[] {
  if (word !== null) return [word];
  return value === "MAP" ? [] : (choices ?? []);
}

async function maps({ api }: Call): Promise<readonly { readonly id: number; readonly name: string }[]> {
  const found = [];
  for await (const { id, name } of allMaps(api, null)) found.push({ id, name });
  return found;
}

async function pins({ api }: Call): Promise<readonly string[]> {
  const page: { readonly pins: readonly { readonly pathname: string }[] } = await api.get("/v1/pins", { limit: PAGE });
  return page.pins.map(({ pathname }) => pathname);
}
