/**
 * Checks of quotas. A caller's usage is a sum over the state: maps, objects, pins and directories name their creator,
 * and the count of a map's elements gives its bytes (`maps/charge.ts`), so a start counts from tables and walks no
 * elements. Commands keep the sums up to date; a replay decides nothing and has none. A map type that is not
 * preallocated calls `growth()` before it takes an element.
 */

import { isOver, type Limits, overQuota, QUOTAS, type StateQuota, type Usage } from "../access/quotas.ts";
import { Refusal } from "../maps/refusal.ts";

/** The callers' limits and usage. */
interface Accounts {
  readonly limits: Limits;
  readonly usage: Usage;
}

/**
 * Refuses `more` if it would exceed the caller's quota. `taken`: the command's own use so far, which is not counted
 * yet.
 */
export function checkQuota(
  accounts: Accounts,
  caller: string,
  quota: StateQuota,
  more: number,
  taken = 0,
): Refusal | null {
  const { limits } = accounts;
  if (limits[quota] === 0) return null;
  const used = accounts.usage.of(caller)[quota] + taken;
  if (!isOver(limits, quota, caller, used, more)) return null;
  return new Refusal(QUOTAS[quota].errno, overQuota(limits, quota, caller, used, more), quota);
}
