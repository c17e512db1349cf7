import type { RowBytes } from "../log/canonical.ts";

export const CMD_COLUMN = 4;
const ATTR_COLUMN = 13;

/** What an event's command says beside its target; null: nothing. Throws where that is no JSON. */
export function attrOf(row: RowBytes): unknown {
  const attr = row[ATTR_COLUMN] ?? null;
  if (attr === null) return null;
  return JSON.parse((typeof attr === "string" ? Buffer.from(attr, "hex") : (attr as Buffer)).toString());
}
