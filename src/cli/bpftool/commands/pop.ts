import type { Call } from "../call.ts";
import { codeOf, Ended, isErrno, refusal, WrongUsage } from "../failure.ts";
import { findMap, pathOf, readReference } from "../map_reference.ts";
import { printFound } from "./lookup.ts";

const REFERENCE_WORDS = 2;

/** map pop | dequeue MAP */
export async function pop({ api, output, words }: Call): Promise<void> {
  if (words.left < REFERENCE_WORDS) throw new WrongUsage();
  const map = await findMap(api, readReference(words), null);
  words.end();
  let value: string;
  try {
    value = (await api.send<{ value: string }>("POST", `${pathOf({ by: "id", id: map.id })}/pop`)).value;
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw refusal("pop failed", error);
    if (output.json !== null) output.json.scalar(null);
    else output.text("Error: empty map\n");
    throw new Ended(codeOf("ENOENT"));
  }
  printFound(output, map, "", value);
}
