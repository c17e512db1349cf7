import type { Refusal } from "../maps/refusal.ts";
import { Btf } from "../syscall/btf.ts";
import { checkTypes } from "../syscall/btf_check.ts";
import { objectsWarning, valueWarning } from "../syscall/special_fields.ts";

/**
 * Why the kernel must not be given a blob, or be asked for a map whose values are of a type in it: it would print a
 * WARNING, which stops a machine that has panic_on_warn. The ledger refuses such commands; logs of earlier releases may have
 * some that it took. null: the kernel may have it, if only to refuse it.
 */
export function btfWarning(blob: Buffer, valueTypeId: number | null): Refusal | null {
  const btf = Btf.parse(blob);
  if (!(btf instanceof Btf) || checkTypes(btf) !== null) return null;
  return objectsWarning(btf) ?? (valueTypeId === null ? null : valueWarning(btf, btf.plain(valueTypeId)));
}
