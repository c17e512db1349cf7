import { mayUseSessionOf } from "../access/caller.ts";
import type { FdView, MapReference, MapView, SessionView } from "../engine/queries.ts";
import type { Asked } from "./as_of.ts";
import { Problem } from "./problems.ts";

/** Questions that must have an answer; where they have none, its problem is thrown. */

export async function askSession(state: Asked, id: number): Promise<SessionView> {
  const session = await state.query("session", { id });
  return typeof session === "string" ? missingSession(id, session) : session;
}

/** The session, if it is the caller's own. */
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

export async function askMap(state: Asked, reference: MapReference, shown: string): Promise<MapView> {
  return oneMap(await state.query("map", { reference }), shown);
}

type Ambiguous = { readonly ambiguous: readonly number[] };

/** The same for questions that find their map themselves. */
export function oneMap<Answer extends object>(answer: Answer | null, shown: string): Exclude<Answer, Ambiguous> {
  if (answer === null) throw new Problem("ENOENT", `there is no map ${shown}`, { errno: "ENOENT" });
  if (!("ambiguous" in answer)) return answer as Exclude<Answer, Ambiguous>;
  const ids = answer.ambiguous as number[];
  const detail = `${ids.length} maps have the name of ${shown}: ids ${ids.join(", ")}`;
  throw new Problem("EINVAL", detail, { errno: "EINVAL" });
}

function missingSession(id: number, why: "ended" | "unknown"): never {
  if (why === "ended") throw new Problem("session-ended", `session ${id} has ended`);
  throw new Problem("no-such-session", `there is no session ${id}`);
}
