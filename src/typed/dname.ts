/** Names of the DNS as packets have them (RFC 1035, 3.1): labels, each after its length, and an empty one at the end. */

import { isPrintable, isZero } from "./json_text.ts";
import type { Leaf } from "./leaf.ts";
import { Misfit, shown } from "./misfit.ts";

const LABEL_BYTES_MAX = 63;
const WIRE_BYTES_MAX = 255;

/** Shows \x07example\x03com\x00 as "example.com", and the root as ".". */
export function dname(size: number): Leaf {
  return {
    read: (bytes, at) => {
      const labels: string[] = [];
      let next = at;
      for (let length = bytes[next] as number; length !== 0; length = bytes[next] as number) {
        const end = next + 1 + length;
        if (length > LABEL_BYTES_MAX || end >= at + size || end - at >= WIRE_BYTES_MAX)
          return new Misfit("a name without its end");
        const label = bytes.toString("latin1", next + 1, end);
        if (!isPrintable(label) || label.includes("."))
          return new Misfit("a label that is not printable ASCII without a dot");
        labels.push(label);
        next = end;
      }
      if (!isZero(bytes, next, at + size)) return new Misfit("bytes after the name");
      return labels.length === 0 ? '"."' : JSON.stringify(labels.join("."));
    },
    write: (bytes, at, json) => {
      if (typeof json !== "string" || json === "" || !isPrintable(json))
        return new Misfit(`a name such as "example.com" required, found ${shown(json)}`);
      const labels = json === "." ? [] : json.replace(/\.$/, "").split(".");
      if (labels.some((label) => label.length === 0 || label.length > LABEL_BYTES_MAX))
        return new Misfit(`labels of 1 to ${LABEL_BYTES_MAX} characters required, found ${shown(json)}`);
      const wire = labels.reduce((sum, label) => sum + 1 + label.length, 1);
      const most = Math.min(size, WIRE_BYTES_MAX);
      if (wire > most) return new Misfit(`at most ${most} bytes, found ${wire}`);
      let next = at;
      for (const label of labels) {
        bytes[next] = label.length;
        bytes.write(label, next + 1, "latin1");
        next += 1 + label.length;
      }
      return null;
    },
  };
}
