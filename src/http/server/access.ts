/**
 * Checks requests against their callers' scopes. A known caller's refusal is a problem, and an ACCESS_REFUSED event
 * unless the caller has many of them; `unknown_callers.ts` has the refusals of unknown ones.
 */

import type { IncomingMessage } from "node:http";
import type { FastifyRequest } from "fastify";
import { CMD } from "../../abi/service.ts";
import type { MapLimits } from "../../access/map_limits.ts";
import type { Scope, Scopes } from "../../access/scopes.ts";
import type { NotDone } from "../../engine/request.ts";
import type { Action, Who } from "../../syscall/command.ts";
import { asModesAllow } from "../../syscall/permission.ts";
import type { EngineDoor } from "./ports.ts";
import { doneText, failure, Problem } from "./problems.ts";

/** The most refusals of one caller in a second that get an event each; the next event's `more` counts the others. */
const EVENTS_MAX = 10;
const SECOND_MS = 1000;

/** A caller's refusals in one second. */
interface CallersRefusals {
  readonly sinceMs: number;
  /** The refusals with an event of their own; `more`: the refusals without one. */
  events: number;
  more: number;
}

export interface RefusalParts {
  readonly refusals: RefusalProblems;
}

/** A refusal, as it is recorded. `has`: the caller's scopes of this kind, where their globs do not cover the map. */
export interface Refusal extends Who {
  readonly scope: string;
  /** Method and path. */
  readonly request: string;
  readonly has?: readonly string[];
}

/** The most characters of a path in an event. */
const PATH_MAX = 256;

/** Throws the problem of a caller who has none of these scopes. */
export function checkScopes({ refusals }: RefusalParts, request: FastifyRequest, need: readonly Scope[]): void {
  if (!isAllowed(request.scopes, need)) throw refusals.refuse(request, need, requestText(request));
}

/**
 * Limits a command to the modes that the caller's scopes allow (`asModesAllow`). Throws the problem if they allow none.
 */
export function asAllowed({ refusals }: RefusalParts, request: FastifyRequest, action: Action): Action {
  const allowed = asModesAllow(action, request.scopes);
  if (typeof allowed === "string") throw refusals.refuse(request, [allowed], requestText(request));
  return allowed;
}

/** For answers that cover all maps: throws the problem of a caller who may read only some of them, and has no admin. */
export function checkSeesAll({ refusals }: RefusalParts, request: FastifyRequest): void {
  const { limits } = request;
  if (limits !== undefined && limits.read !== "all" && !limits.admin)
    throw refusals.refuseMap(request, "read", requestText(request));
}

/** The problem of a command that was not run to its end, or whose outcome is unknown. */
export function notDone({ refusals }: RefusalParts, who: RefusedCaller, request: Requested, answer: NotDone): Problem {
  if (answer.scope === undefined) return failure(answer);
  return refusals.refuseMap(who, answer.scope, requestText(request), answer.done);
}

/** The caller whose request is refused; `limits`: if the caller's scopes have globs. */
type RefusedCaller = Who & { readonly limits?: MapLimits | undefined };

type Requested = Pick<IncomingMessage, "method" | "url">;

/** The request's method and path, without the query. */
export function requestText({ method = "", url = "" }: Requested): string {
  const [path = ""] = url.split("?");
  return `${method} ${path.slice(0, PATH_MAX)}`;
}

/** Whether a caller has one of these scopes. */
export function isAllowed(scopes: Scopes, need: readonly Scope[]): boolean {
  return need.some((scope) => scopes.has(scope));
}

/** Makes the problems of known callers' refusals, each of which is noted. */
export class RefusalProblems {
  readonly #note: (refusal: Refusal) => void;

  constructor(note: (refusal: Refusal) => void) {
    this.#note = note;
  }

  /** The problem of a caller who has none of the needed scopes. `request`: method and path. */
  refuse(who: Who, need: readonly Scope[], request: string): Problem {
    this.#note({ caller: who.caller, peer: who.peer, scope: need.join(","), request });
    return problem(`${who.caller} has none of these scopes: ${need.join(", ")}`);
  }

  /**
   * The problem of a caller whose globs do not cover the map or the path. It names the caller's own scopes of this
   * kind, and nothing about the map. `done`: the part of the command that was done before the refusal.
   */
  refuseMap(who: RefusedCaller, scope: Scope, request: string, done?: NotDone["done"]): Problem {
    const has = (who.limits?.texts ?? []).filter((text) => text === scope || text.startsWith(`${scope}@`));
    this.#note({ caller: who.caller, peer: who.peer, scope, request, has });
    const own = has.length === 0 ? `${who.caller} has no ${scope}` : `${who.caller} has ${has.join(", ")}`;
    return problem(`no scope ${scope} of ${who.caller} covers this: ${own}${doneText(done)}`);
  }
}

/** The refusals of known callers: makes their problems, counts them, and records them as events. */
export class Refusals extends RefusalProblems {
  readonly #engine: Pick<EngineDoor, "run">;
  readonly #nowMs: () => number;
  readonly #told = new Map<string, CallersRefusals>();
  /** Refusals since the start, by caller. */
  readonly totals = new Map<string, number>();

  constructor(engine: Pick<EngineDoor, "run">, nowMs = (): number => performance.now()) {
    super((refusal) => this.note(refusal));
    this.#engine = engine;
    this.#nowMs = nowMs;
  }

  /** Counts and records a refusal whose problem was made elsewhere. */
  note({ caller, peer, scope, request, has }: Refusal): void {
    this.totals.set(caller, (this.totals.get(caller) ?? 0) + 1);
    const more = this.#count(caller);
    if (more !== null) {
      const attr = { scope, ...(has !== undefined && { has }), request, more };
      // If the log cannot take the event, only the event is missing: the request is refused all the same.
      this.#engine.run({ cmd: CMD.ACCESS_REFUSED, session: 0, caller, peer, attr }).catch(() => {});
    }
  }

  /** Counts a refusal. Returns the number of refusals since the last event; null: this refusal gets no event. */
  #count(name: string): number | null {
    const nowMs = this.#nowMs();
    const told = this.#told.get(name);
    if (told === undefined || nowMs - told.sinceMs >= SECOND_MS) {
      this.#told.set(name, { sinceMs: nowMs, events: 1, more: 0 });
      return told?.more ?? 0;
    }
    if (told.events < EVENTS_MAX) {
      told.events++;
      return 0;
    }
    told.more++;
    return null;
  }
}

function problem(detail: string): Problem {
  return new Problem("scope-missing", detail, { errno: "EACCES" });
}
