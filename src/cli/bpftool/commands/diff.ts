import { Refused } from "../../../client/api.ts";
import type { Call } from "../call.ts";
import { bytesField, lineOf } from "../change_text.ts";
import { refusal, WrongUsage } from "../failure.ts";
import { must, readKeywords } from "../keywords.ts";
import { pathOf, readReference } from "../map_reference.ts";
import type { Output } from "../output.ts";

/** MAP, "from" and a moment. */
const LEAST_WORDS = 4;
const PAGE = 1000;

interface Change {
  readonly key: string;
  readonly before: string | null;
  readonly after: string | null;
}

interface Page {
  readonly map: number;
  readonly from: number;
  readonly to: number;
  readonly added: number;
  readonly changed: number;
  readonly removed: number;
  readonly changes: readonly Change[];
  readonly next: string | null;
}

/** map diff MAP from MOMENT [to MOMENT] */
export async function diff({ api, output, words }: Call): Promise<void> {
  if (words.left < LEAST_WORDS) throw new WrongUsage();
  const reference = readReference(words);
  const given = readKeywords(words, { from: "MOMENT", to: "MOMENT" });
  const { json } = output;
  const page = async (from: string, to: string | undefined, after: string | null): Promise<Page> => {
    try {
      return await api.get(`${pathOf(reference)}/diff`, { from, to, after, limit: PAGE });
    } catch (error) {
      throw error instanceof Refused ? refusal("can't compare", error) : error;
    }
  };
  const first = await page(must(given.from, "from"), given.to, null);
  const { changes: _, next: __, ...head } = first;
  if (json === null)
    output.line(
      `map ${head.map}, event ${head.from} to event ${head.to}: ${head.added} added, ${head.changed} changed, ${head.removed} removed`,
      "bold",
    );
  else {
    json.open("{");
    for (const [name, value] of Object.entries(head)) json.field(name, value);
    json.name("changes");
    json.open("[");
  }
  for (let shown: Page | null = first; shown !== null; ) {
    for (const change of shown.changes) print(output, change);
    await output.pause();
    // Later pages are of the first one's moments, also if events come meanwhile.
    shown = shown.next === null ? null : await page(String(first.from), String(first.to), shown.next);
  }
  json?.close("]");
  json?.close("}");
}

function print(output: Output, { key, before, after }: Change): void {
  const { json } = output;
  if (json !== null) {
    json.open("{");
    bytesField(json, "key", key);
    bytesField(json, "before", before);
    bytesField(json, "after", after);
    json.close("}");
    return;
  }
  const [mark, colour] =
    before === null ? (["+", "green"] as const) : after === null ? (["-", "red"] as const) : (["~", "yellow"] as const);
  const was = before === null || after === null ? "" : `  was: ${lineOf(before)}`;
  output.line(`${mark} key: ${lineOf(key)}  value: ${lineOf(after ?? before ?? "")}${was}`, colour);
}
