import type { Call } from "../call.ts";
import { readElement } from "../data.ts";
import { hexText, writeBytes } from "../element_text.ts";
import { refusal, WrongUsage } from "../failure.ts";
import { findMap, noKeys, pathOf, readReference } from "../map_reference.ts";

const REFERENCE_WORDS = 2;

/** map getnext MAP [key DATA] */
export async function getNext({ api, at, output, words }: Call): Promise<void> {
  if (words.left < REFERENCE_WORDS) throw new WrongUsage();
  const map = await findMap(api, readReference(words), at);
  const wanted = { key: map.key_size, value: null, hasValues: false, flags: false };
  const key = words.left === 0 ? null : (await readElement(words, wanted)).key;
  if (key !== null && map.key_size === 0) throw noKeys("can't get next key", map);
  let next: string;
  try {
    const asked = `${pathOf({ by: "id", id: map.id })}/next-key`;
    next = (await api.get<{ next_key: string }>(asked, { key, at })).next_key;
  } catch (error) {
    throw refusal("can't get next key", error);
  }
  const { json } = output;
  if (json === null) {
    output.text(key === null ? "key: None\n" : `key:\n${hexText(key)}\n`);
    output.text(`next key:\n${hexText(next)}\n`);
    return;
  }
  json.open("{");
  json.name("key");
  if (key === null) json.scalar(null);
  else writeBytes(json, key);
  json.name("next_key");
  writeBytes(json, next);
  json.close("}");
}
