/**
 * BTF of a kernel module, as /sys/kernel/btf has it: its types and strings continue those of vmlinux, so that ids and
 * offsets of names count from the beginning of vmlinux's.
 */

import { isRefusal, type Refusal } from "../maps/refusal.ts";
import { headerOf, readHeader } from "./header.ts";

/** One blob with the types of both, those of the base first. */
export function joined(base: Buffer, split: Buffer): Buffer | Refusal {
  const [first, second] = [sections(base), sections(split)];
  if (isRefusal(first)) return first;
  if (isRefusal(second)) return second;
  const types = first.types.length + second.types.length;
  const strings = first.strings.length + second.strings.length;
  const header = headerOf(types, strings);
  return Buffer.concat([header, first.types, second.types, first.strings, second.strings]);
}

function sections(blob: Buffer): { readonly types: Buffer; readonly strings: Buffer } | Refusal {
  const header = readHeader(blob);
  if (isRefusal(header)) return header;
  const { headerBytes, typeOff, typeLen, strOff, strLen } = header;
  const section = (offset: number, length: number): Buffer =>
    blob.subarray(headerBytes + offset, headerBytes + offset + length);
  return { types: section(typeOff, typeLen), strings: section(strOff, strLen) };
}
