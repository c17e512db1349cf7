/** The elements of the bench's hash maps, and requests for them. */

export const KEY_BYTES = 8;
export const VALUE_BYTES = 64;
export const value = Buffer.alloc(VALUE_BYTES, 0xa5).toString("hex");

const json = { "content-type": "application/json" };

export function key(number: number): string {
  const bytes = Buffer.alloc(KEY_BYTES);
  bytes.writeUInt32LE(number);
  return bytes.toString("hex");
}

/** Requests on keys all over a map of so many. `path`: the map's or a descriptor's. */
export function requests(
  path: string,
  method: "GET" | "PUT",
  keys: number,
  token: string | null = null,
): { method: typeof method; path: string; headers: Record<string, string>; body?: string }[] {
  const headers = token === null ? json : { ...json, authorization: `Bearer ${token}` };
  return Array.from({ length: 1000 }, (_, at) => {
    const request = { method, path: `${path}/elements/${key((at * 7919) % keys)}`, headers };
    return method === "PUT" ? { ...request, body: JSON.stringify({ value }) } : request;
  });
}
