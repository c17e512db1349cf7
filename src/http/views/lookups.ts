/** Questions about sessions, descriptors and maps that must have an answer; otherwise their problem is thrown. */

import { mayUseSessionOf } from "../../access/caller.ts";
import type { MapScope } from "../../access/scopes.ts";
import type { MapReference } from "../../engine/map_reference.ts";
import type { Hidden } from "../../engine/sight.ts";
import type { FdView, MapTypes, MapView, SessionView } from "../../engine/views.ts";
import { severalNamed } from "../../syscall/map_names.ts";
import { Problem } from "../server/problems.ts";
import type { Asked } from "./as_of.ts";

export async function askSession(state: Pick<Asked, "query">, id: number): Promise<SessionView> {
  const session = await state.query("session", { id });
  return typeof session === "string" ? missingSession(id, session) : session;
}

/** The session. Throws the problem if it is another caller's. */
export async function askOwnSession(state: Asked, id: number, caller: string): Promise<SessionView> {
  const session = await askSession(state, id);
  if (!mayUseSessionOf(session.caller, caller))
    throw new Problem("session-foreign", `session ${id} is another caller's`);
  return session;
}

export async function askFds(state: Asked, session: number): Promise<FdView[]> {
  const fds = await state.query("fds", { session });
  return typeof fds === "string" ? missingSession(session, fds) : fds;
}

/** `scopes`: one of these must cover the map. `shown`: the request's reference to the map. */
export async function askMap(
  state: Asked,
  reference: MapReference,
  shown: string,
  scopes: readonly MapScope[] = ["read"],
): Promise<MapView> {
  return seen(state, await state.query("map", { reference, scopes }), shown, scopes);
}

/** The types of a map. The parameters are those of askMap. */
export async function askTypes(
  state: Asked,
  reference: MapReference,
  shown: string,
  scopes: readonly MapScope[] = ["read"],
): Promise<MapTypes> {
  return seen(state, await state.query("types", { reference, scopes }), shown, scopes);
}

/** What a question found of a map. Throws the problem if there is no such map, or if no scope covers it. */
function seen<Answer extends object>(
  state: Asked,
  answer: Answer | null,
  shown: string,
  scopes: readonly MapScope[],
): Exclude<Answer, Ambiguous | Hidden> {
  if (answer === null || !("missing" in answer)) return oneMap(answer, shown) as Exclude<Answer, Ambiguous | Hidden>;
  throw state.refusal?.(scopes[0] as MapScope) ?? new Problem("scope-missing", `no scope covers map ${shown}`);
}

type Ambiguous = { readonly ambiguous: readonly number[] };

/** The map that a question found. Throws the problem if there is none, or more than one. */
export function oneMap<Answer extends object>(answer: Answer | null, shown: string): Exclude<Answer, Ambiguous> {
  if (answer === null) throw new Problem("ENOENT", `there is no map ${shown}`, { errno: "ENOENT" });
  if (!("ambiguous" in answer)) return answer as Exclude<Answer, Ambiguous>;
  throw new Problem("EINVAL", severalNamed(`of ${shown}`, answer.ambiguous as number[]), { errno: "EINVAL" });
}

function missingSession(id: number, why: "ended" | "unknown"): never {
  if (why === "ended") throw new Problem("session-ended", `session ${id} has ended`);
  throw new Problem("no-such-session", `there is no session ${id}`);
}
