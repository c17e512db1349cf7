import { elementFault } from "./body.ts";
import { InvalidInput } from "./invalid.ts";
import { NotJson, parseInPieces } from "./json_pieces.ts";
import { PackedPairs } from "./packed.ts";
import { shown } from "./scalars.ts";

const LF = 10;
/** Bytes between two pauses. A longer line is read in pieces. */
const PIECE_BYTES = 64 * 1024;
const BYTE_ORDER_MARK = Buffer.from("\ufeff");

/**
 * Lines of `{"key":"..","value":".."}`, as an export has them, as the body of a batch of updates. Lines end with LF or CRLF, the last
 * one need not; blank ones are passed over. Rejects with InvalidInput, by the line's number from 1, where one is no JSON; what is wrong
 * with a key or a value is told when the elements are taken. `pause` is awaited between two pieces.
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

/** What a line says; undefined: it is blank. */
async function readLine(line: Buffer, where: string, pause: () => Promise<void>): Promise<unknown> {
  try {
    if (line.length > PIECE_BYTES) return await parseInPieces(line, pause);
    const text = line.toString("utf8");
    return text.trim() === "" ? undefined : JSON.parse(text);
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof NotJson)) throw error;
    throw new InvalidInput(where, `JSON is needed, found ${shown(line.toString("utf8", 0, PIECE_BYTES))}`);
  }
}
