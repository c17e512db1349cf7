import { Refused } from "../../../client/api.ts";
import { ConnectionFailed } from "../../../client/plain_connection.ts";
import type { Call } from "../call.ts";
import { FILTERS } from "../event_commands.ts";
import { cellsOf, type LogEvent, readFilters } from "../event_text.ts";
import { refusal } from "../failure.ts";
import { checkStream, STREAM_ENDED } from "./watch.ts";

/** event watch [filters] [after POSITION]: events as they are recorded. */
export async function eventWatch({ api, output, words }: Call): Promise<void> {
  checkStream(output);
  const names = FILTERS.map(({ word }) => word).filter((word) => word !== "since" && word !== "until");
  const query = readFilters(words, [...names, "after"]);
  try {
    for await (const { event, data } of api.messages("/v1/events/stream", query)) {
      if (event === "event") print(output, JSON.parse(data) as LogEvent);
      else if (event === "lagging") output.note(`the stream lags behind: ${data}`);
      await output.pause();
      output.soon();
    }
    throw new ConnectionFailed(`${api.url}: ${STREAM_ENDED}`);
  } catch (error) {
    throw error instanceof Refused ? refusal("can't watch events", error) : error;
  }
}

function print(output: Call["output"], event: LogEvent): void {
  if (output.json !== null) {
    output.json.value(event);
    output.json.end();
  } else if (output.isTerminal) output.line(cellsOf(event).join("  "), event.errno === null ? undefined : "red");
  else output.cells(cellsOf(event));
}
