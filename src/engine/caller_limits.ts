/**
 * The limits of callers whose scopes have globs, by the ids that their requests carry. `syscall/permission.ts` checks a
 * command by them right before it is decided.
 */

import type { MapLimits } from "../access/map_limits.ts";
import type { Scope } from "../access/scopes.ts";
import type { Command } from "../syscall/command.ts";
import { Coverage } from "../syscall/coverage.ts";
import { permit } from "../syscall/permission.ts";
import type { State } from "../syscall/state.ts";
import type { WalkRequest } from "./pieces.ts";
import type { NotDone } from "./request.ts";

export class CallerLimits {
  readonly coverage: Coverage;
  #byId: ReadonlyMap<number, MapLimits> = new Map();

  constructor(state: State) {
    this.coverage = new Coverage(state);
  }

  /** Replaces all limits. A request with the id of any other limits is refused from now on. */
  set(limits: readonly MapLimits[]): void {
    this.#byId = new Map(limits.map((one) => [one.id, one]));
    this.coverage.keep(limits.map(({ read }) => read));
  }

  /** undefined: these limits were revoked. */
  of(id: number): MapLimits | undefined {
    return this.#byId.get(id);
  }

  /** The command as its caller may run it, which can be narrower than requested; or the refusal. */
  permitted(command: Command, id: number): Command | NotDone {
    const limits = this.#byId.get(id);
    // The limits were revoked while the request was on its way.
    if (limits === undefined) return scopeMissing("read");
    const permitted = permit(this.coverage, command, limits);
    return "missing" in permitted ? scopeMissing(permitted.missing) : permitted.command;
  }

  /** Whether so few maps are left to match that the walk can run at once. */
  isNear({ limits }: WalkRequest): boolean {
    const reach = this.#byId.get(limits)?.read ?? [];
    return reach === "all" || this.coverage.isNear(reach);
  }

  /** Matches some maps for a walk. Returns whether it can run. */
  walk({ limits, attr }: WalkRequest): boolean {
    const reach = this.#byId.get(limits)?.read ?? [];
    return reach === "all" || this.coverage.walk(reach, attr.startId, 1);
  }
}

function scopeMissing(scope: Scope): NotDone {
  return { failure: "scope missing", detail: `a scope ${scope} is missing`, scope, done: "nothing" };
}
