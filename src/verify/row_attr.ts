import type { RowBytes } from "../log/canonical.ts";

export const CMD_COLUMN = 4;
const ATTR_COLUMN = 13;

/**
 * The parsed `attr` column of an event: the fields of its command beside the target; null if it is empty. Throws if it
 * is not JSON.
 */
export function attrOf(row: RowBytes): unknown {
  const attr = row[ATTR_COLUMN] ?? null;
  if (attr === null) return null;
  return JSON.parse((typeof attr === "string" ? Buffer.from(attr, "hex") : (attr as Buffer)).toString());
}
