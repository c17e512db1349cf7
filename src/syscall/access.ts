import { refuse } from "../maps/refusal.ts";
import type { AccessRefusedCommand, Origin } from "./command.ts";
import { failed, type Outcome } from "./outcome.ts";
import type { State } from "./state.ts";

/** Records a request that was refused for its caller's scopes, before it became a command. */
export function accessRefused(_state: State, { attr: { scope, has } }: Origin & AccessRefusedCommand): Outcome {
  if (has === undefined) return failed(refuse("EACCES", `the caller has none of these scopes: ${scope}`));
  const own = has.length === 0 ? "none" : has.join(", ");
  return failed(refuse("EACCES", `no scope ${scope} of the caller covers this: the caller has ${own}`));
}
