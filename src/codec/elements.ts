/**
 * Writes the JSON of elements. Keys and values lie end to end and are turned to hex many at a time, in pieces, so that
 * a large response is never one string.
 */

/** About how many bytes of keys and values a piece has. */
const PIECE_BYTES = 64 * 1024;

/** Elements end to end. */
export interface Elements {
  readonly keys: Buffer;
  readonly values: Buffer;
  readonly count: number;
  /** Further fields of each element's JSON, with a comma before each: `,"shows":"ids"`. */
  readonly more: string;
}

/** Replaces the value "" of each of `fields` in a JSON object by bytes in hex. `fields` has the order of `json`. */
export function* withHex(json: string, fields: readonly (readonly [name: string, bytes: Buffer])[]): Iterable<string> {
  let from = 0;
  for (const [name, bytes] of fields) {
    // This cannot match within a string: there its quotes would be escaped.
    const at = json.indexOf(`"${name}":""`, from) + name.length + 4;
    yield json.slice(from, at);
    yield* hexPieces(bytes);
    from = at;
  }
  yield json.slice(from);
}

function* hexPieces(bytes: Buffer): Iterable<string> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield bytes.toString("hex", at, at + PIECE_BYTES);
}

/** Elements as `{"key":"..","value":".."}`, separated by a comma or a line's end. */
export function* elementItems({ keys, values, count, more }: Elements, separator: "," | "\n"): Iterable<string> {
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
