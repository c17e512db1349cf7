import { type Api, Refused } from "../../../client/api.ts";
import type { Call } from "../call.ts";
import { bytesField, valueLine } from "../change_text.ts";
import { readAllData, readData } from "../data.ts";
import { Failure, isErrno, refusal, WrongUsage } from "../failure.ts";
import { findMap, type MapFacts, pathOf, type Reference, readReference } from "../map_reference.ts";
import { Table } from "../table.ts";

/** MAP, "key" and a byte. */
const LEAST_WORDS = 4;
const PAGE = 1000;
/** Elements of queues and stacks are named by their place, a u64. */
const PLACE_BYTES = 8;

interface Version {
  readonly seq: number;
  readonly time: string;
  readonly session: number | null;
  readonly caller: string;
  readonly cmd: string;
  readonly value: string | null;
}

/** map history MAP key DATA */
export async function history({ api, output, words }: Call): Promise<void> {
  if (words.left < LEAST_WORDS) throw new WrongUsage();
  const reference = readReference(words);
  const map = await mapOrNone(api, reference);
  if (!words.takes("key")) throw new Failure(`expected key, got: ${words.first}`);
  const key = map === null ? readAllData(words) : readData(words, "key", map.key_size || PLACE_BYTES);
  words.end();
  const { json } = output;
  const shape = map ?? { possible_cpus: null, value_size: 0 };
  const table = new Table(output, ["SEQ", "TIME", "CALLER", "SESSION", "COMMAND", "VALUE"]);
  json?.open("[");
  try {
    for await (const { seq, time, session, caller, cmd, value } of versions(api, reference, key)) {
      if (json === null) {
        const shown = value === null ? "(deleted)" : valueLine(shape, value);
        table.row(String(seq), time, caller, String(session ?? "-"), cmd, shown);
      } else {
        json.open("{");
        for (const [name, field] of Object.entries({ seq, time, session, caller, cmd })) json.field(name, field);
        bytesField(json, "value", value);
        json.close("}");
      }
      await output.pause();
    }
  } catch (error) {
    throw error instanceof Refused ? refusal("can't get the history", error) : error;
  }
  json?.close("]");
  table.flush();
}

/** null: the id may be that of a freed map. */
async function mapOrNone(api: Api, reference: Reference): Promise<MapFacts | null> {
  if (reference.by !== "id") return findMap(api, reference, null);
  try {
    return await api.get<MapFacts>(pathOf(reference));
  } catch (error) {
    if (isErrno(error, "ENOENT")) return null;
    throw refusal(`get map by id (${reference.id})`, error, 255);
  }
}

async function* versions(api: Api, reference: Reference, key: string): AsyncIterable<Version> {
  const path = `${pathOf(reference)}/elements/${key}/history`;
  for (let after: string | null = "0"; after !== null; ) {
    const page: { versions: Version[]; next: string | null } = await api.get(path, { limit: PAGE, after });
    yield* page.versions;
    after = page.next;
  }
}
