import type { Call } from "../call.ts";
import { readElement } from "../data.ts";
import { refusal, WrongUsage } from "../failure.ts";
import { findMap, noKeys, pathOf, readReference } from "../map_reference.ts";

const REFERENCE_WORDS = 2;

/** map delete MAP key DATA */
export async function deleteElement({ api, output, words }: Call): Promise<void> {
  if (words.left < REFERENCE_WORDS) throw new WrongUsage();
  const map = await findMap(api, readReference(words), null);
  const { key } = await readElement(words, { key: map.key_size, value: null, hasValues: false, flags: false });
  if (map.key_size === 0) throw noKeys("delete failed", map);
  try {
    await api.send("DELETE", `${pathOf({ by: "id", id: map.id })}/elements/${key}`);
  } catch (error) {
    throw refusal("delete failed", error);
  }
  output.json?.scalar(null);
}
