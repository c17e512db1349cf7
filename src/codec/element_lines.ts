/** Reads a batch of updates from lines of elements (application/x-ndjson). */

import { elementFault } from "./body.ts";
import { InvalidInput } from "./invalid.ts";
import { NotJson, parseInPieces } from "./json_pieces.ts";
import { PackedPairs } from "./packed.ts";
import { shown } from "./scalars.ts";

const LF = 10;
/** The number of bytes read between two pauses. A longer line is parsed in pieces. */
const PIECE_BYTES = 64 * 1024;
const BYTE_ORDER_MARK = Buffer.from("\ufeff");

/**
 * Reads lines of `{"key":"..","value":".."}`, as exports have them, as a batch of updates. Lines end with LF or CRLF,
 * except possibly the last; blank ones are skipped. Rejects with InvalidInput, naming the line from 1, if one is not
 * JSON; wrong keys or values are reported when the elements are taken. `pause` is awaited between two pieces.
 */
export async function elementsInLines(
  bytes: Buffer,
  pause: () => Promise<void>,
): Promise<{ readonly elements: PackedPairs }> {
  let line = 0;
  const elements = new PackedPairs(() => `line ${line}`, elementFault);
  let at = bytes.subarray(0, BYTE_ORDER_MARK.length).equals(BYTE_ORDER_MARK) ? BYTE_ORDER_MARK.length : 0;
  let rested = at;
  while (at < bytes.length && !elements.isRefused) {
    const found = bytes.indexOf(LF, at);
    const end = found === -1 ? bytes.length : found;
    line++;
    const element = await readLine(bytes.subarray(at, end), `line ${line}`, pause);
    if (element !== undefined) elements.add(element);
    at = end + 1;
    if (at - rested < PIECE_BYTES) continue;
    await pause();
    rested = at;
  }
  return { elements };
}

/** The JSON of a line; undefined: the line is blank. */
async function readLine(line: Buffer, where: string, pause: () => Promise<void>): Promise<unknown> {
  try {
    if (line.length > PIECE_BYTES) return await parseInPieces(line, pause);
    const text = line.toString("utf8");
    return text.trim() === "" ? undefined : JSON.parse(text);
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof NotJson)) throw error;
    throw new InvalidInput(where, `JSON required, found ${shown(line.toString("utf8", 0, PIECE_BYTES))}`);
  }
}
