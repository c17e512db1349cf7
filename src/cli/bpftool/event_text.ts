/** Events of the log as the command line prints them, and the filters that select them. */

import { lineOf } from "./change_text.ts";
import { readKeywords } from "./keywords.ts";
import { readReference, referenceText } from "./map_reference.ts";
import type { Output } from "./output.ts";
import { Table } from "./table.ts";
import type { Words } from "./words.ts";

/** As GET /v1/events has it. */
export interface LogEvent {
  readonly seq: number;
  readonly time: string;
  readonly session: number | null;
  readonly caller: string;
  readonly cmd: string;
  readonly map: number | null;
  readonly key: string | null;
  readonly errno: string | null;
  readonly detail: string | null;
}

/** Keys of more bytes are cut: an event may have those of a whole batch. */
const KEY_BYTES = 24;
const HEADS = ["SEQ", "TIME", "CALLER", "SESSION", "COMMAND", "MAP", "KEY", "RESULT"];

const VALUES: Readonly<Record<string, string | null>> = {
  map: "MAP",
  session: "ID",
  caller: "NAME",
  cmd: "CMD",
  errno: "ERRNO",
  key: "HEX",
  since: "TIME",
  until: "TIME",
  changes: null,
  failed: null,
  after: "POSITION",
  before: "POSITION",
  limit: "N",
};

/** The fields of the query, by their names there. */
export function readFilters(words: Words, names: readonly (string | null)[]): Readonly<Record<string, string>> {
  const known = Object.fromEntries(Object.entries(VALUES).filter(([name]) => names.includes(name)));
  const given = readKeywords<string>(words, known, { map: readMap });
  return given as Readonly<Record<string, string>>;
}

/** MAP, or an id alone, which may be that of a freed map. */
function readMap(words: Words): string {
  return /^\d+$/.test(words.first ?? "") ? words.next("an id") : referenceText(readReference(words));
}

export async function printEvents(output: Output, events: AsyncIterable<LogEvent>): Promise<void> {
  const { json } = output;
  const table = new Table(output, HEADS);
  json?.open("[");
  for await (const event of events) {
    if (json === null) table.row(...cellsOf(event));
    else json.value(event);
    await output.pause();
  }
  json?.close("]");
  table.flush();
}

export function cellsOf({ seq, time, caller, session, cmd, map, key, errno, detail }: LogEvent): readonly string[] {
  const cut = key === null ? "-" : lineOf(key.slice(0, KEY_BYTES * 2)) + (key.length > KEY_BYTES * 2 ? " ..." : "");
  const result = errno === null ? "ok" : `${errno}${detail === null ? "" : `: ${detail}`}`;
  return [String(seq), time, caller, String(session ?? "-"), cmd, String(map ?? "-"), cut, result];
}
