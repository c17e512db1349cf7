import { CMD } from "../abi/service.ts";
import { visibleJson } from "../codec/visible.ts";
import type { EventRow } from "../log/event.ts";
import { eventJson } from "../log/event_json.ts";
import { Ids } from "./ids.ts";
import { createdShape, isBehind, isSelected, type Selection } from "./selection.ts";
import { inSeqs, type Source } from "./source.ts";
import type { Write } from "./target.ts";

/** Lines are written in pieces of at least this many characters. */
const PIECE_CHARACTERS = 64 * 1024;

/**
 * Writes selected events as GET /v1/events exports them, one a line. An event without a peer gets its session's, if the
 * event that opened the session was read.
 */
export async function writeEvents(source: Source, asked: Selection, write: Write): Promise<void> {
  const selection = await inSeqs(source, asked);
  const shapes = new Ids();
  const peers = new Map<number, string>();
  const afterSeq = selection.key === undefined ? (selection.afterSeq ?? 0) : 0;
  let piece = "";
  for await (const row of source.read({ ...selection, afterSeq })) {
    const shape = createdShape(row);
    if (shape !== null) shapes.addShape(row.map, shape);
    if (row.cmd === CMD.SESSION_OPEN) notePeer(peers, row);
    if (isBehind(selection, row)) break;
    if (!isSelected(selection, row, shapes.shape(row.map))) continue;
    piece += `${visibleJson(eventJson(row, peers.get(row.session)))}\n`;
    if (piece.length < PIECE_CHARACTERS) continue;
    await write(piece);
    piece = "";
  }
  await write(piece);
}

function notePeer(peers: Map<number, string>, { attr, out }: EventRow): void {
  const { peer } = JSON.parse(attr ?? "{}");
  const { session_id: session } = JSON.parse(out ?? "{}");
  if (typeof peer === "string" && Number.isInteger(session)) peers.set(session, peer);
}
