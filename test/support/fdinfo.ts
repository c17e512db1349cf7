import { readFileSync } from "node:fs";

/** What only procfs tells of an fd: whether it is a map at all, and whether that is frozen. Null: no map. */
export function fdinfo(fd: number): { readonly mapId: number; readonly frozen: boolean } | null {
  const text = readFileSync(`/proc/self/fdinfo/${fd}`, "latin1");
  const mapId = /^map_id:\t(\d+)$/m.exec(text)?.[1];
  return mapId === undefined ? null : { mapId: Number(mapId), frozen: /^frozen:\t1$/m.test(text) };
}
