/** Elements in hex, written by hand: keys and values lie end to end, and are turned to hex many at a time. */

/** Elements a piece: what is turned to text at once, so that a large answer is never one string. */
const PIECE_BYTES = 64 * 1024;

/** A list's items, `{"key":"..","value":".."}`, with commas between; in pieces. */
export function* elementItems(keys: Buffer, values: Buffer, count: number): Iterable<string> {
  let first = true;
  for (const piece of pieces(keys, values, count, ",")) {
    yield first ? piece : `,${piece}`;
    first = false;
  }
}

/** The same, one a line. */
export function* elementLines(keys: Buffer, values: Buffer, count: number): Iterable<string> {
  for (const piece of pieces(keys, values, count, "\n")) yield `${piece}\n`;
}

function* pieces(keys: Buffer, values: Buffer, count: number, separator: string): Iterable<string> {
  if (count === 0) return;
  const keyBytes = keys.length / count;
  const valueBytes = values.length / count;
  const many = Math.max(1, Math.floor(PIECE_BYTES / (keyBytes + valueBytes + 1)));
  for (let at = 0; at < count; at += many) {
    const end = Math.min(count, at + many);
    const keysHex = keys.toString("hex", at * keyBytes, end * keyBytes);
    const valuesHex = values.toString("hex", at * valueBytes, end * valueBytes);
    const items: string[] = new Array(end - at);
    for (let i = 0; i < items.length; i++) {
      const key = keysHex.slice(i * keyBytes * 2, (i + 1) * keyBytes * 2);
      const value = valuesHex.slice(i * valueBytes * 2, (i + 1) * valueBytes * 2);
      items[i] = `{"key":"${key}","value":"${value}"}`;
    }
    yield items.join(separator);
  }
}
