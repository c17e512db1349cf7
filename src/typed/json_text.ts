/** Text as JSON. */

/** A string of printable ASCII: bytes from `start` to `end`. */
export function asciiJson(bytes: Buffer, start: number, end: number): string {
  const text = bytes.toString("latin1", start, end);
  return text.includes('"') || text.includes("\\") ? JSON.stringify(text) : `"${text}"`;
}

/** Whether bytes are printable ASCII from `start` up to the first NUL; answers where that is, or -1. */
export function printableEnd(bytes: Buffer, start: number, end: number): number {
  for (let at = start; at < end; at++) {
    const byte = bytes[at] as number;
    if (byte === 0) return at;
    if (byte < 0x20 || byte > 0x7e) return -1;
  }
  return -1;
}

export function isPrintable(text: string): boolean {
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code < 0x20 || code > 0x7e) return false;
  }
  return true;
}

/** Whether bytes are zero from `start` on. */
export function isZero(bytes: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at++) if (bytes[at] !== 0) return false;
  return true;
}
