import { visible } from "../../../codec/visible.ts";
import type { Call } from "../call.ts";
import type { JsonWriter } from "../json_writer.ts";
import { allMaps, allPins, findMaps, flagsOf, type MapFacts, readReference, typeWord } from "../map_reference.ts";
import type { Output } from "../output.ts";

const REFERENCE_WORDS = 2;

/** map show | list [MAP] */
export async function show(call: Call): Promise<void> {
  const { api, at, output, words, options } = call;
  const print = async (map: MapFacts): Promise<void> => {
    const pins = options.pins ? await allPins(api, map, at) : null;
    if (output.json === null) printText(output, map, pins);
    else writeMap(output.json, map, pins);
    await output.pause();
  };
  if (words.left === REFERENCE_WORDS) {
    const maps = await findMaps(api, readReference(words), at);
    if (maps.length > 1) output.json?.open("[");
    for (const map of maps) await print(map);
    if (maps.length > 1) output.json?.close("]");
    return;
  }
  words.end();
  output.json?.open("[");
  for await (const map of allMaps(api, at)) await print(map);
  output.json?.close("]");
}

/** The first line about a map: "7: hash  name counters  flags 0x0". */
export function printHead(output: Output, map: MapFacts): void {
  const name = map.name === "" ? "" : `name ${map.name}  `;
  output.text(`${map.id}: ${typeWord(map.map_type)}  ${name}flags 0x${flagsOf(map).toString(16)}\n`);
}

export function writeHead(json: JsonWriter, map: MapFacts): void {
  json.field("id", map.id);
  json.field("type", typeWord(map.map_type));
  if (map.name !== "") json.field("name", map.name);
  json.field("flags", flagsOf(map));
}

function printText(output: Output, map: MapFacts, pins: readonly string[] | null): void {
  const { btf, frozen } = map;
  printHead(output, map);
  output.text(`\tkey ${map.key_size}B  value ${map.value_size}B  max_entries ${map.max_entries}`);
  for (const path of pins ?? []) output.text(`\n\tpinned ${visible(path)}`);
  const facts = [...(btf === null ? [] : [`btf_id ${btf.btf_id}`]), ...(frozen ? ["frozen"] : [])];
  output.text(`${facts.length === 0 ? "" : `\n\t${facts.join("  ")}`}\n`);
}

function writeMap(json: JsonWriter, map: MapFacts, pins: readonly string[] | null): void {
  json.open("{");
  writeHead(json, map);
  json.field("bytes_key", map.key_size);
  json.field("bytes_value", map.value_size);
  json.field("max_entries", map.max_entries);
  json.field("frozen", map.frozen ? 1 : 0);
  if (map.btf !== null) json.field("btf_id", map.btf.btf_id);
  if (pins !== null) {
    json.name("pinned");
    json.value(pins);
  }
  json.close("}");
}
