/** Long texts that are made beside other work. */

import type { Turns } from "../../engine/turn_queue.ts";

const PIECE_CHARACTERS = 64 * 1024;
/** The time for which making a text may hold the thread. */
const TURN_MS = 4;

/** Joins texts into pieces, and gives others a turn whenever some milliseconds have passed since the last. */
export async function* paced(texts: Iterable<string>, turns: Pick<Turns, "take">): AsyncIterable<string> {
  let piece: string[] = [];
  let characters = 0;
  let until = performance.now() + TURN_MS;
  for (const text of texts) {
    if (text !== "") piece.push(text);
    characters += text.length;
    // A piece that is sent is followed by a turn of its own.
    if (characters >= PIECE_CHARACTERS) {
      yield piece.join("");
      [piece, characters] = [[], 0];
      until = performance.now() + TURN_MS;
    } else if (performance.now() >= until) {
      await turns.take();
      until = performance.now() + TURN_MS;
    }
  }
  if (characters > 0) yield piece.join("");
}

/** A JSON object that ends in an empty list, with items in the list. */
export function* withItems(object: string, items: Iterable<string>): Iterable<string> {
  yield object.slice(0, -2);
  yield* items;
  yield "]}";
}
