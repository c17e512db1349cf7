import type { Call } from "../call.ts";
import { codeOf, refusal } from "../failure.ts";
import { findMap, pathname, pathOf, readReference } from "../map_reference.ts";

/** map pin MAP FILE */
export async function pin({ api, output, words }: Call): Promise<void> {
  words.need(3, codeOf("EINVAL"));
  const map = await findMap(api, readReference(words), null);
  const path = pathname(words.next("a path"));
  words.end();
  try {
    await api.send("POST", `${pathOf({ by: "id", id: map.id })}/pin`, { pathname: path });
  } catch (error) {
    throw refusal(`can't pin the object (${path})`, error);
  }
  output.json?.scalar(null);
}
