import type { Errno } from "../../../abi/errno.ts";
import { Refused } from "../../../client/api.ts";
import type { Call } from "../call.ts";
import { type ElementPrinter, elementPrinter } from "../element_text.ts";
import { errnoText, refusal, WrongUsage } from "../failure.ts";
import { findMaps, type MapFacts, pathOf, readReference } from "../map_reference.ts";
import { dumpRule } from "../unread_keys.ts";
import { printHead, writeHead } from "./show.ts";

const REFERENCE_WORDS = 2;

interface Element {
  readonly key: string;
  readonly value: string;
}

/** map dump MAP: all elements, as of one moment, in the order of the service's state. */
export async function dump(call: Call): Promise<void> {
  const { api, at, output, words } = call;
  if (words.left !== REFERENCE_WORDS) throw new WrongUsage();
  const maps = await findMaps(api, readReference(words), at);
  for (const map of maps) await checkWalk(call, map);
  if (maps.length > 1) output.json?.open("[");
  for (const [place, map] of maps.entries()) {
    await dumpMap(call, map, maps.length > 1);
    if (output.json === null && place < maps.length - 1) output.text("\n");
  }
  if (maps.length > 1) output.json?.close("]");
}

async function dumpMap(call: Call, map: MapFacts, isOneOfMany: boolean): Promise<void> {
  const { output } = call;
  const { json } = output;
  if (json === null && isOneOfMany) printHead(output, map);
  else if (isOneOfMany) {
    json?.open("{");
    if (json !== null) writeHead(json, map);
    json?.name("elements");
  }
  json?.open("[");
  if (refusesValues(map)) output.note("Warning: cannot read values from reuseport_sockarray map with value_size != 8");
  const printer = elementPrinter(output, map);
  const found = await printElements(call, map, printer);
  json?.close("]");
  if (isOneOfMany) json?.close("}");
  if (json === null) output.text(`Found ${found} element${found === 1 ? "" : "s"}\n`);
}

function refusesValues({ map_type: type, value_size: bytes }: MapFacts): boolean {
  return type === "BPF_MAP_TYPE_REUSEPORT_SOCKARRAY" && bytes !== 8;
}

/** Returns the number of elements whose value was printed. */
async function printElements(call: Call, map: MapFacts, printer: ElementPrinter): Promise<number> {
  const { output } = call;
  const { refused, absent } = dumpRule(map.map_type, map.value_size);
  const unread = (key: string, errno: Errno): void => printer.unread(key, errno, errnoText(errno, TEXTS[errno] ?? ""));
  const progress = call.progress("dumping", map.entries, "elements");
  let found = 0;
  let index = 0;
  const fillTo = async (end: number): Promise<void> => {
    for (; absent !== null && index < end; index++) {
      unread(indexKey(index), refused ?? absent);
      await output.pause();
    }
  };
  try {
    for await (const { key, value } of elementsOf(call, map)) {
      if (absent !== null) await fillTo(Buffer.from(key, "hex").readUInt32LE());
      if (refused !== null) unread(key, refused);
      else {
        printer.element(key, value);
        found++;
      }
      index++;
      progress.update(index);
      await output.pause();
    }
    await fillTo(map.max_entries);
  } finally {
    progress.stop();
  }
  return found;
}

async function* elementsOf({ api, at }: Call, map: MapFacts): AsyncIterable<Element> {
  try {
    yield* api.lines<Element>(`${pathOf({ by: "id", id: map.id })}/elements`, { at });
  } catch (error) {
    throw error instanceof Refused ? refusal("can't read elements", error) : error;
  }
}

/**
 * Asks for the first key of a map whose type has none to walk: bpftool prints nothing then but "Found 0 elements". The
 * refusal names the rule.
 */
async function checkWalk({ api, at }: Call, map: MapFacts): Promise<void> {
  if (dumpRule(map.map_type, map.value_size).walks) return;
  try {
    await api.get(`${pathOf({ by: "id", id: map.id })}/next-key`, { at });
  } catch (error) {
    throw refusal("can't get next key", error);
  }
}

function indexKey(index: number): string {
  const key = Buffer.alloc(4);
  key.writeUInt32LE(index);
  return key.toString("hex");
}

/** strerror(3) of the errnos with which values of some types cannot be read. */
const TEXTS: Partial<Record<Errno, string>> = {
  ENOENT: "No such file or directory",
  ENOSPC: "No space left on device",
  EOPNOTSUPP: "Operation not supported",
};
