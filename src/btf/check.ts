/**
 * Checks BTF in the kernel's order, a file for each step: `header.ts`, `names.ts`, each type by itself (`metas.ts`),
 * references between types (`resolve.ts`), type tags, and objects that programs may allocate (`objects.ts`). `btf.ts`
 * reads the BTF of any log: it refuses little, because an earlier release may have taken more.
 */

import { isRefusal, type Refusal } from "../maps/refusal.ts";
import { Btf } from "./btf.ts";
import { checkHeader } from "./header.ts";
import { checkMetas } from "./metas.ts";
import { Names } from "./names.ts";
import { checkObjects, type Undestroyed } from "./objects.ts";
import { checkTypes } from "./resolve.ts";
import { checkTypeTags } from "./type_tags.ts";

/**
 * btf_parse(), kernel/bpf/btf.c, in its order: the header and its sections, each type by itself, the references between
 * types, chains of type tags, and the objects that programs may allocate. BTF that would make the kernel print a
 * WARNING is refused with a `Warned`.
 */
export function checkedBtf(blob: Buffer, undestroyed?: Undestroyed): Btf | Refusal {
  const header = checkHeader(blob);
  if (isRefusal(header)) return header;
  const strings = header.headerBytes + header.strOff;
  const names = new Names(blob.subarray(strings, strings + header.strLen));
  const refusal = checkMetas(blob, header, names);
  if (refusal !== null) return refusal;
  const btf = Btf.parse(blob);
  if (isRefusal(btf)) return btf;
  return checkTypes(btf, names) ?? checkTypeTags(btf) ?? checkObjects(btf, undestroyed) ?? btf;
}
