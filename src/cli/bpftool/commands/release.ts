import type { Call } from "../call.ts";
import { refusal } from "../failure.ts";
import { pathOf, readReference } from "../map_reference.ts";

/** map release { MAP | ID } */
export async function release({ api, output, words }: Call): Promise<void> {
  words.need(1);
  const isAlone = /^[1-9]\d{0,9}$/.test(words.first ?? "");
  const reference = isAlone ? ({ by: "id", id: Number(words.next("an id")) } as const) : readReference(words);
  words.end();
  let done: { readonly seq: number };
  try {
    done = await api.send("POST", `${pathOf(reference)}/mirror/release`);
  } catch (error) {
    throw refusal("release failed", error);
  }
  const name = reference.by === "id" ? reference.id : reference.by === "name" ? reference.name : reference.path;
  if (output.json === null) output.line(`map ${name}: release: event ${done.seq}`);
  else output.json.scalar(null);
}
