import type { Call } from "../call.ts";
import { readData, readElement } from "../data.ts";
import { elementPrinter, hexText } from "../element_text.ts";
import { codeOf, Ended, isErrno, refusal, WrongUsage } from "../failure.ts";
import { findMap, type MapFacts, pathOf, readReference } from "../map_reference.ts";

const REFERENCE_WORDS = 2;

/** map lookup | peek MAP [key DATA]; of a bloom filter: MAP value DATA. */
export async function lookup({ api, at, output, words }: Call): Promise<void> {
  if (words.left < REFERENCE_WORDS) throw new WrongUsage();
  const map = await findMap(api, readReference(words), at);
  const asksValue = map.map_type === "BPF_MAP_TYPE_BLOOM_FILTER" && words.left > 0;
  const element = await readElement(words, {
    key: map.key_size === 0 ? null : map.key_size,
    value: asksValue ? (words) => readData(words, "value", map.value_size) : null,
    hasValues: asksValue,
    flags: false,
  });
  const path = pathOf({ by: "id", id: map.id });
  let found: { readonly value: string };
  try {
    found =
      element.key === null
        ? await api.send("POST", `${path}/peek${at === null ? "" : `?at=${encodeURIComponent(at)}`}`, {
            ...(element.value !== null && { value: element.value }),
          })
        : await api.get(`${path}/elements/${element.key}`, { at });
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw refusal("lookup failed", error);
    if (output.json !== null) output.json.scalar(null);
    else output.text(`key:\n${hexText(element.key ?? "")}\n\nNot found\n`);
    throw new Ended(codeOf("ENOENT"));
  }
  printFound(output, map, element.key ?? "", found.value);
}

/** The element that a command has answered. */
export function printFound(output: Call["output"], map: MapFacts, key: string, value: string): void {
  elementPrinter(output, map).element(key, value);
}
