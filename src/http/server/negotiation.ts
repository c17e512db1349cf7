/** Accept, If-Match and If-None-Match. */

import type { IncomingHttpHeaders } from "node:http";
import { BPF_ELEM } from "../../abi/bpf.ts";
import { InvalidInput } from "../../codec/invalid.ts";

export const NDJSON = "application/x-ndjson";
export const OCTETS = "application/octet-stream";
const JSON_TYPE = "application/json";

/** Whether Accept prefers `type` to JSON. JSON is the default. */
export function wants({ accept }: IncomingHttpHeaders, type: string): boolean {
  if (accept === undefined || !accept.includes(type)) return false;
  const ranges = accept.split(",").map(readRange);
  const asked = ranges.find((range) => range.type === type)?.quality ?? 0;
  const json = ranges.find((range) => range.type === JSON_TYPE);
  if (json !== undefined) return asked > json.quality;
  return asked > 0 && asked >= (ranges.find((range) => range.type === "*/*")?.quality ?? 0);
}

function readRange(range: string): { readonly type: string; readonly quality: number } {
  const [type = "", ...parameters] = range.split(";").map((part) => part.trim());
  const quality = parameters.find((parameter) => parameter.startsWith("q="))?.slice(2);
  return { type: type.toLowerCase(), quality: quality === undefined ? 1 : Number(quality) || 0 };
}

/** BPF_NOEXIST and BPF_EXIST. */
const CONDITION = 3n;

/** Adds a request's condition to the flags of an update: If-None-Match: * is BPF_NOEXIST, If-Match: * is BPF_EXIST. */
export function conditionalFlags(headers: IncomingHttpHeaders, flags: bigint): bigint {
  const absent = headers["if-none-match"];
  const present = headers["if-match"];
  if (absent === undefined && present === undefined) return flags;
  if (absent !== undefined && present !== undefined)
    throw new InvalidInput("if-match", "not allowed together with If-None-Match");
  if ((absent ?? present) !== "*")
    throw new InvalidInput(
      absent === undefined ? "if-match" : "if-none-match",
      'only "*" is allowed: elements have no entity tags',
    );
  if ((flags & CONDITION) !== 0n)
    throw new InvalidInput("flags", "BPF_NOEXIST and BPF_EXIST are not allowed with If-Match or If-None-Match");
  return flags | (absent === undefined ? BPF_ELEM.BPF_EXIST : BPF_ELEM.BPF_NOEXIST);
}
