import type { Call } from "../call.ts";
import { readData, readElement } from "../data.ts";
import { onAllCpus } from "../element_text.ts";
import { Failure, refusal, WrongUsage } from "../failure.ts";
import {
  checkId,
  findMap,
  type MapFacts,
  pathname,
  pathOf,
  type Reference,
  readId,
  readReference,
} from "../map_reference.ts";
import type { Output } from "../output.ts";
import { inSession } from "../own_session.ts";
import { isPrefix, type Words } from "../words.ts";

const REFERENCE_WORDS = 2;

/** An object that the value is to refer to: opened as a descriptor of the command's own session. */
type Opening = { readonly kind: "map"; readonly map: number } | ProgramOpening;
type ProgramOpening =
  | { readonly kind: "prog"; readonly id: number }
  | { readonly kind: "prog"; readonly pinned: string };

/** map update MAP [key DATA] [value VALUE] [any | exist | noexist], and push, enqueue. */
export async function update({ api, output, words }: Call): Promise<void> {
  if (words.left < REFERENCE_WORDS) throw new WrongUsage();
  const map = await findMap(api, readReference(words), null);
  let opening: Opening | null = null;
  const element = await readElement(words, {
    key: map.key_size === 0 ? null : map.key_size,
    value:
      map.value_size === 0
        ? null
        : async (words) => {
            opening = await readOpening(words, map, output, (reference) => findMap(api, reference, null));
            return opening === null ? onAllCpus(map, readData(words, "value", map.value_size)) : "";
          },
    hasValues: map.value_size > 0,
    flags: true,
  });
  const { key, flags } = element;
  const write = (base: string, value: string): Promise<unknown> =>
    key === null
      ? api.send("POST", `${base}/push`, { value, flags })
      : api.send("PUT", `${base}/elements/${key}`, { value, flags });
  try {
    if (opening === null) await write(pathOf({ by: "id", id: map.id }), element.value ?? "");
    else await writeReference(opening);
  } catch (error) {
    throw error instanceof Failure ? error : refusal("update failed", error);
  }
  output.json?.scalar(null);

  /** Descriptors are a session's: the command has one of its own until it ends. */
  async function writeReference(opening: Opening): Promise<void> {
    await inSession(api, "mapledger map update", async (session) => {
      const open = (body: object): Promise<{ fd: number }> => api.send("POST", `${session}/fds`, body);
      const { fd: outer } = await open({ kind: "map", map: map.id });
      const { fd } = await open(opening).catch((error) => {
        throw openingFailed(opening, error);
      });
      const value = Buffer.alloc(4);
      value.writeInt32LE(fd);
      await write(`${session}/fds/${outer}`, value.toString("hex"));
    });
  }
}

/** MAP of a map of maps, PROG of a program array; null: the value is DATA. */
async function readOpening(
  words: Words,
  map: MapFacts,
  output: Output,
  find: (reference: Reference) => Promise<MapFacts>,
): Promise<Opening | null> {
  switch (map.map_type) {
    case "BPF_MAP_TYPE_ARRAY_OF_MAPS":
    case "BPF_MAP_TYPE_HASH_OF_MAPS":
      if (words.left < 2) throw new Failure("not enough value arguments for map in map");
      return { kind: "map", map: (await find(readReference(words))).id };
    case "BPF_MAP_TYPE_PROG_ARRAY":
      if (words.left < 2) throw new Failure("not enough value arguments for map of progs");
      return readProgram(words, output);
    default:
      return null;
  }
}

function readProgram(words: Words, output: Output): ProgramOpening {
  if (words.takes("id")) {
    output.note("Warning: updating program array via MAP_ID, make sure this map is kept open");
    output.note("         by some process or pinned otherwise update will be lost");
    const id = readId(words);
    checkId(id, "get by id");
    return { kind: "prog", id };
  }
  if (isPrefix(words.first, "tag") || isPrefix(words.first, "name"))
    throw new Failure("a program is given by id or pinned: the service does not look for its name or tag");
  if (words.takes("pinned")) return { kind: "prog", pinned: pathname(words.next("a path")) };
  throw new Failure(`expected 'id', 'tag', 'name' or 'pinned', got: '${words.first}'?`);
}

function openingFailed(opening: Opening, error: unknown): Failure {
  if (opening.kind === "map") return refusal(`get map by id (${opening.map})`, error, 255);
  return "id" in opening
    ? refusal(`get by id (${opening.id})`, error, 255)
    : refusal(`bpf obj get (${opening.pinned})`, error, 255);
}
