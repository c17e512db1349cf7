import type { Call } from "../call.ts";
import { refusal } from "../failure.ts";
import { findMap, pathOf, readReference } from "../map_reference.ts";

/** map freeze MAP */
export async function freeze({ api, output, words }: Call): Promise<void> {
  words.need(2);
  const map = await findMap(api, readReference(words), null);
  words.end();
  try {
    await api.send("POST", `${pathOf({ by: "id", id: map.id })}/freeze`);
  } catch (error) {
    throw refusal("failed to freeze map", error);
  }
  output.json?.scalar(null);
}
