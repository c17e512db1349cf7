/** Elements in lists of changes: keys and values on one line each, whatever their length. */

import { type PerCpu, slotsOf, writeBytes } from "./element_text.ts";
import type { JsonWriter } from "./json_writer.ts";

/** "2a 00 00 00" */
export function lineOf(hex: string): string {
  return hex.match(/../g)?.join(" ") ?? "";
}

/** The value; of a per-CPU map those of all CPUs, with bars between. */
export function valueLine(map: PerCpu, value: string): string {
  return slotsOf(map, value).map(lineOf).join(" | ");
}

/** Bytes as bpftool has them in JSON; null: there are none. */
export function bytesField(json: JsonWriter, name: string, hex: string | null): void {
  json.name(name);
  if (hex === null) json.scalar(null);
  else writeBytes(json, hex);
}
