import { checkedBtf } from "../btf/check.ts";
import { valueWarning, Warned } from "../btf/special_fields.ts";
import { isRefusal, type Refusal } from "../maps/refusal.ts";

/**
 * The reason why the kernel must not get a BTF blob, or a map whose values have a type of it: the kernel would print a
 * WARNING, which stops a machine with panic_on_warn. The ledger refuses such commands, but logs of earlier releases may
 * have some. null: the kernel may have it, even if it will refuse it.
 */
export function btfWarning(blob: Buffer, valueTypeId: number | null): Refusal | null {
  const btf = checkedBtf(blob);
  if (isRefusal(btf)) return btf instanceof Warned ? btf : null;
  return valueTypeId === null ? null : valueWarning(btf, btf.plain(valueTypeId));
}
