import { visibleJson } from "../codec/visible.ts";
import { eventJson } from "../log/event_json.ts";
import { Ids } from "./ids.ts";
import { createdShape, isBehind, isSelected, type Selection } from "./selection.ts";
import type { Source } from "./source.ts";
import type { Write } from "./target.ts";

/** Lines gathered before they are written. */
const PIECE_CHARACTERS = 64 * 1024;

/** Selected events as GET /v1/events exports them, a line each. */
export async function writeEvents(source: Source, selection: Selection, write: Write): Promise<void> {
  const shapes = new Ids();
  const afterSeq = selection.key === undefined ? (selection.afterSeq ?? 0) : 0;
  let piece = "";
  for await (const row of source.read({ ...selection, afterSeq })) {
    const shape = createdShape(row);
    if (shape !== null) shapes.addShape(row.map, shape);
    if (isBehind(selection, row)) break;
    if (!isSelected(selection, row, shapes.shape(row.map))) continue;
    piece += `${visibleJson(eventJson(row))}\n`;
    if (piece.length < PIECE_CHARACTERS) continue;
    await write(piece);
    piece = "";
  }
  await write(piece);
}
