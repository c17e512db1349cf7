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

/** Events a caller and second that tell of refusals; the rest are counted. */
const EVENTS_MAX = 10;
const SECOND_MS = 1000;

/** The refusals of a caller in one second. */
interface CallersRefusals {
  readonly sinceMs: number;
  /** Those that have an event, and those behind them that have none. */
  events: number;
  more: number;
}

export interface RefusalParts {
  readonly refusals: Refusals;
}

/** Bytes of a path that an event tells. */
const PATH_MAX = 256;

/** Throws the problem of a caller who has none of the scopes that a request needs. */
export function checkScopes({ refusals }: RefusalParts, request: FastifyRequest, need: readonly Scope[]): void {
  if (!isAllowed(request.scopes, need)) throw refusals.refuse(request, need, requestText(request));
}

/** The command with the mode that the caller's scopes leave its descriptor. Throws the problem of a caller who may not have it. */
export function asAllowed({ refusals }: RefusalParts, request: FastifyRequest, action: Action): Action {
  const allowed = asModesAllow(action, request.scopes);
  if (typeof allowed === "string") throw refusals.refuse(request, [allowed], requestText(request));
  return allowed;
}

/** Throws the problem of a caller who sees some maps, where an answer is of all of them. */
export function checkSeesAll({ refusals }: RefusalParts, request: FastifyRequest): void {
  const { limits } = request;
  if (limits !== undefined && limits.read !== "all" && !limits.admin)
    throw refusals.refuseMap(request, "read", requestText(request));
}

/** The problem of a command that did not happen. */
export function notDone({ refusals }: RefusalParts, who: RefusedCaller, request: Requested, answer: NotDone): Problem {
  if (answer.scope === undefined) return failure(answer);
  return refusals.refuseMap(who, answer.scope, requestText(request), answer.done);
}

/** Who is refused, and what he may do where his scopes have globs. */
type RefusedCaller = Who & { readonly limits?: MapLimits | undefined };

type Requested = Pick<IncomingMessage, "method" | "url">;

/** Method and path. */
export function requestText({ method = "", url = "" }: Requested): string {
  const [path = ""] = url.split("?");
  return `${method} ${path.slice(0, PATH_MAX)}`;
}

/** Whether a caller has one of the scopes that something needs. */
export function isAllowed(scopes: Scopes, need: readonly Scope[]): boolean {
  return need.some((scope) => scopes.has(scope));
}

/** What known callers may not do, and asked for: each is an event, so many a caller and second. */
export class Refusals {
  readonly #engine: Pick<EngineDoor, "run">;
  readonly #nowMs: () => number;
  readonly #told = new Map<string, CallersRefusals>();
  /** Since the start, by caller. */
  readonly totals = new Map<string, number>();

  constructor(engine: Pick<EngineDoor, "run">, nowMs = (): number => performance.now()) {
    this.#engine = engine;
    this.#nowMs = nowMs;
  }

  /** The problem to answer with. `request`: method and path. */
  refuse(who: Who, need: readonly Scope[], request: string): Problem {
    this.#tell(who, need.join(","), request);
    return problem(`${who.caller} has none of these scopes: ${need.join(", ")}`);
  }

  /**
   * The same where his scopes do not cover the map or the path: it tells those of the kind that he has, and nothing of what he asked for.
   * `done`: what was done before, if anything was.
   */
  refuseMap(who: RefusedCaller, scope: Scope, request: string, done?: NotDone["done"]): Problem {
    const has = (who.limits?.texts ?? []).filter((text) => text === scope || text.startsWith(`${scope}@`));
    this.#tell(who, scope, request, has);
    const own = has.length === 0 ? `${who.caller} has no ${scope}` : `${who.caller} has ${has.join(", ")}`;
    return problem(`no scope ${scope} of ${who.caller} covers this: ${own}${doneText(done)}`);
  }

  #tell({ caller, peer }: Who, scope: string, request: string, has?: readonly string[]): void {
    this.totals.set(caller, (this.totals.get(caller) ?? 0) + 1);
    const more = this.#count(caller);
    if (more !== null) {
      const attr = { scope, ...(has !== undefined && { has }), request, more };
      // What the log cannot take is not told of; the request is refused all the same.
      this.#engine.run({ cmd: CMD.ACCESS_REFUSED, session: 0, caller, peer, attr }).catch(() => {});
    }
  }

  /** Refusals without an event since the last one; null: neither has this one an event. */
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
