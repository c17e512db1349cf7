import type { FastifyRequest } from "fastify";
import { CMD } from "../abi/service.ts";
import type { Scope, Scopes } from "../access/scopes.ts";
import type { EngineDoor, Parts } from "./parts.ts";
import { Problem } from "./problems.ts";

/** Events a caller and second that tell of refusals; the rest are counted. */
const EVENTS_MAX = 10;
const SECOND_MS = 1000;

interface Told {
  readonly sinceMs: number;
  events: number;
  more: number;
}

/** Bytes of a path that an event tells. */
const PATH_MAX = 256;

/** Throws the problem of a caller who has none of the scopes that a request needs. */
export function checkScopes(
  { refusals }: Pick<Parts, "refusals">,
  request: FastifyRequest,
  need: readonly Scope[],
): void {
  if (isAllowed(request.scopes, need)) return;
  const [path = ""] = request.url.split("?");
  throw refusals.refuse(request.caller, need, `${request.method} ${path.slice(0, PATH_MAX)}`);
}

/** Whether a caller has one of the scopes that something needs. */
export function isAllowed(scopes: Scopes, need: readonly Scope[]): boolean {
  return need.some((scope) => scopes.has(scope));
}

/** What known callers may not do, and asked for: each is an event, so many a caller and second. */
export class Refusals {
  readonly #engine: Pick<EngineDoor, "run">;
  readonly #nowMs: () => number;
  readonly #told = new Map<string, Told>();

  constructor(engine: Pick<EngineDoor, "run">, nowMs = (): number => performance.now()) {
    this.#engine = engine;
    this.#nowMs = nowMs;
  }

  /** The problem to answer with. `request`: method and path. */
  refuse(name: string, need: readonly Scope[], request: string): Problem {
    const scope = need.join(",");
    const more = this.#count(name);
    if (more !== null) {
      const attr = { scope, request, more };
      // What the log cannot take is not told of; the request is refused all the same.
      this.#engine.run({ cmd: CMD.ACCESS_REFUSED, session: 0, caller: name, attr }).catch(() => {});
    }
    return new Problem("scope-missing", `${name} has none of these scopes: ${need.join(", ")}`);
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
