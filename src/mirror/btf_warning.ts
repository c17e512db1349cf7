import { checkedBtf } from "../btf/check.ts";
import { valueWarning, Warned } from "../btf/special_fields.ts";
import { isRefusal, type Refusal } from "../maps/refusal.ts";

/**
 * Why the kernel must not be given a blob, or be asked for a map whose values are of a type in it: it would print a
 * WARNING, which stops a machine that has panic_on_warn. The ledger refuses such commands; logs of earlier releases may have
 * some that it took. null: the kernel may have it, if only to refuse it.
 */
export function btfWarning(blob: Buffer, valueTypeId: number | null): Refusal | null {
  const btf = checkedBtf(blob);
  if (isRefusal(btf)) return btf instanceof Warned ? btf : null;
  return valueTypeId === null ? null : valueWarning(btf, btf.plain(valueTypeId));
}
