const PIECE_CHARACTERS = 64 * 1024;

/** Joins small texts into pieces of at least PIECE_CHARACTERS, except the last. */
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
