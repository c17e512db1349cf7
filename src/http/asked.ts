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
  if (session.caller !== caller) throw new Problem("session-foreign", `session ${id} is another caller's`);
  return session;
}

export async function askFds(state: Asked, session: number): Promise<FdView[]> {
  const fds = await state.query("fds", { session });
  return typeof fds === "string" ? missingSession(session, fds) : fds;
}

export async function askMap(state: Asked, reference: MapReference, shown: string): Promise<MapView> {
  const map = await state.query("map", { reference });
  if (map === null) throw new Problem("ENOENT", `there is no map ${shown}`, { errno: "ENOENT" });
  if (!("ambiguous" in map)) return map;
  const detail = `${map.ambiguous.length} maps have the name of ${shown}: ids ${map.ambiguous.join(", ")}`;
  throw new Problem("EINVAL", detail, { errno: "EINVAL" });
}

function missingSession(id: number, why: "ended" | "unknown"): never {
  if (why === "ended") throw new Problem("session-ended", `session ${id} has ended`);
  throw new Problem("no-such-session", `there is no session ${id}`);
}
