import { Refused } from "../../../client/api.ts";
import { ConnectionFailed } from "../../../client/plain_connection.ts";
import type { Call } from "../call.ts";
import { bytesField, lineOf, valueLine } from "../change_text.ts";
import { Failure, refusal, WrongUsage } from "../failure.ts";
import type { JsonWriter } from "../json_writer.ts";
import { readKeywords } from "../keywords.ts";
import { findMap, type MapFacts, pathOf, readReference } from "../map_reference.ts";
import type { Output } from "../output.ts";

const REFERENCE_WORDS = 2;
export const STREAM_ENDED = "the service has ended the stream";

interface Line {
  readonly event: "begin" | "snapshot" | "synced" | "put" | "delete" | "frozen" | "freed" | "bookmark" | "lagging";
  readonly seq: number;
  readonly time?: string;
  readonly key?: string;
  readonly value?: string | null;
  readonly position?: string;
  readonly anew?: { readonly detail: string } | null;
  readonly map?: MapFacts;
}

/** map watch MAP [after POSITION] */
export async function watch({ api, output, words }: Call): Promise<void> {
  if (words.left < REFERENCE_WORDS) throw new WrongUsage();
  checkStream(output);
  const reference = readReference(words);
  const { after } = readKeywords(words, { after: "POSITION" });
  // A freed map can be watched from a position before its end: then its definition is not asked for.
  let map = after === undefined ? await findMap(api, reference, null) : null;
  let reached: string | null = after ?? null;
  try {
    for await (const line of api.lines<Line>(`${pathOf(reference)}/watch`, { after })) {
      map = line.map ?? map;
      if (output.json === null) print(output, map, line);
      else writeLine(output.json, line);
      if (line.event === "freed") return;
      reached = line.position ?? reached;
      await output.pause();
      output.soon();
    }
    throw new ConnectionFailed(`${api.url}: ${STREAM_ENDED}`);
  } catch (error) {
    if (error instanceof Refused) throw refusal("can't watch", error);
    if (!(error instanceof ConnectionFailed) || reached === null) throw error;
    throw new Failure(error.message, undefined, `to go on, watch with: after ${reached}`);
  }
}

/** Throws a Failure within a batch as JSON, where the messages of a stream would be no JSON. */
export function checkStream({ json }: Output): void {
  if (json !== null && json.depth > 0) throw new Failure("a watch has no end: it cannot be part of a batch with -j");
}

function print(output: Output, map: MapFacts | null, line: Line): void {
  const { event, seq, time, key = "", value } = line;
  const shape = map ?? { possible_cpus: null, value_size: 0 };
  const element = `key: ${lineOf(key)}${value == null ? "" : `  value: ${valueLine(shape, value)}`}`;
  switch (event) {
    case "begin":
      if (line.anew != null) output.note(`the watch begins anew: ${line.anew.detail}`);
      output.line(`map ${map?.id}, as of event ${seq}`, "bold");
      break;
    case "snapshot":
      output.line(`= ${element}`);
      break;
    case "put":
      output.line(`+ ${element}  event ${seq}  ${time}`, "green");
      break;
    case "delete":
      output.line(`- ${element}  event ${seq}  ${time}`, "red");
      break;
    case "frozen":
    case "freed":
      output.line(`${event}  event ${seq}  ${time}`, "bold");
      break;
    case "lagging":
      output.note(`the watch lags behind: it is at event ${seq}`);
      break;
    case "synced":
    case "bookmark":
      break;
  }
}

/** One JSON text a line: the stream has no end at which a list could be closed. */
function writeLine(json: JsonWriter, { event, seq, time, key, value, position }: Line): void {
  if (event === "bookmark" || event === "synced") return;
  json.open("{");
  json.field("event", event);
  json.field("seq", seq);
  if (time !== undefined) json.field("time", time);
  if (key !== undefined) bytesField(json, "key", key);
  if (value !== undefined) bytesField(json, "value", value);
  if (position !== undefined) json.field("position", position);
  json.close("}");
  json.end();
}
