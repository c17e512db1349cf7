/** Elements in hex, written by hand: keys and values lie end to end, and are turned to hex many at a time. */

/** Elements a piece: what is turned to text at once, so that a large answer is never one string. */
const PIECE_BYTES = 64 * 1024;

/** A list's items, `{"key":"..","value":".."}`, with commas between; in pieces. `more`: fields of each, a comma before each. */
export function* elementItems(keys: Buffer, values: Buffer, count: number, more = ""): Iterable<string> {
  yield* pieces(keys, values, count, ",", more);
}

/** The same, one a line. */
export function* elementLines(keys: Buffer, values: Buffer, count: number, more = ""): Iterable<string> {
  yield* pieces(keys, values, count, "\n", more);
  if (count > 0) yield "\n";
}

/** Fields of a JSON object that are empty texts in `json`, in their order there; in their place the bytes in hex, in pieces. */
export function* withHex(json: string, fields: readonly (readonly [name: string, bytes: Buffer])[]): Iterable<string> {
  let from = 0;
  for (const [name, bytes] of fields) {
    // Within a text the quotes would be escaped.
    const at = json.indexOf(`"${name}":""`, from) + name.length + 4;
    yield json.slice(from, at);
    yield* hexPieces(bytes);
    from = at;
  }
  yield json.slice(from);
}

/** Bytes in hex, in pieces. */
function* hexPieces(bytes: Buffer): Iterable<string> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield bytes.toString("hex", at, at + PIECE_BYTES);
}

function* pieces(keys: Buffer, values: Buffer, count: number, separator: string, more: string): Iterable<string> {
  if (count === 0) return;
  const keyBytes = keys.length / count;
  const valueBytes = values.length / count;
  const many = Math.floor(PIECE_BYTES / (keyBytes + valueBytes + 1));
  if (many === 0) {
    for (let at = 0; at < count; at++) {
      yield `${at === 0 ? "" : separator}{"key":"`;
      yield* hexPieces(keys.subarray(at * keyBytes, (at + 1) * keyBytes));
      yield '","value":"';
      yield* hexPieces(values.subarray(at * valueBytes, (at + 1) * valueBytes));
      yield `"${more}}`;
    }
    return;
  }
  for (let at = 0; at < count; at += many) {
    if (at > 0) yield separator;
    const end = Math.min(count, at + many);
    const keysHex = keys.toString("hex", at * keyBytes, end * keyBytes);
    const valuesHex = values.toString("hex", at * valueBytes, end * valueBytes);
    const items: string[] = new Array(end - at);
    for (let i = 0; i < items.length; i++) {
      const key = keysHex.slice(i * keyBytes * 2, (i + 1) * keyBytes * 2);
      const value = valuesHex.slice(i * valueBytes * 2, (i + 1) * valueBytes * 2);
      items[i] = `{"key":"${key}","value":"${value}"${more}}`;
    }
    yield items.join(separator);
  }
}
