/** Small texts put together, so that not each of them is a piece of its own. */
const PIECE_CHARACTERS = 64 * 1024;

/** Texts, of which small ones are put together. */
export function* inPieces(texts: Iterable<string>): Iterable<string> {
  let piece = "";
  for (const text of texts) {
    piece += text;
    if (piece.length < PIECE_CHARACTERS) continue;
    yield piece;
    piece = "";
  }
  if (piece !== "") yield piece;
}
