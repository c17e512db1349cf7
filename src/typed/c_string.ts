/** Strings of C: printable ASCII with a NUL behind it, and zeros to the end of their array. */

import { asciiJson, isZero, printableEnd } from "./json_text.ts";
import type { Leaf } from "./leaf.ts";
import { Misfit, shown } from "./misfit.ts";

/**
 * An array of `count` chars. If it is no string it is a list of numbers, as `numbers` reads and writes it. `exact`: bytes
 * after the NUL are a Misfit; if not, they are not shown.
 */
export function cString(count: number, numbers: Leaf, exact: boolean): Leaf {
  return {
    read: (bytes, at, names) => {
      const end = printableEnd(bytes, at, at + count);
      if (end === -1) return numbers.read(bytes, at, names);
      return exact && !isZero(bytes, end, at + count) ? new Misfit("bytes after NUL") : asciiJson(bytes, at, end);
    },
    write: (bytes, at, json, names) => {
      if (typeof json !== "string") return numbers.write(bytes, at, json, names);
      const { length } = json;
      if (length >= count)
        return new Misfit(`at most ${Math.max(0, count - 1)} characters before the NUL, found ${length}`);
      for (let index = 0; index < length; index++) {
        const code = json.charCodeAt(index);
        if (code < 0x20 || code > 0x7e) return new Misfit(`printable ASCII required, found ${shown(json)}`);
        bytes[at + index] = code;
      }
      return null;
    },
  };
}
