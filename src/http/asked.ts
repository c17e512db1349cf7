import type { FdView, MapReference, MapView, SessionView } from "../engine/queries.ts";
import type { EngineDoor } from "./parts.ts";
import { Problem } from "./problems.ts";

/** Questions to the engine that must have an answer; where they have none, its problem is thrown. */

export async function askSession(engine: EngineDoor, id: number): Promise<SessionView> {
  const session = await engine.query("session", { id });
  return typeof session === "string" ? missingSession(id, session) : session;
}

/** The session, if it is the caller's own. */
export async function askOwnSession(engine: EngineDoor, id: number, caller: string): Promise<SessionView> {
  const session = await askSession(engine, id);
  if (session.caller !== caller) throw new Problem("session-foreign", `session ${id} is another caller's`);
  return session;
}

export async function askFds(engine: EngineDoor, session: number): Promise<FdView[]> {
  const fds = await engine.query("fds", { session });
  return typeof fds === "string" ? missingSession(session, fds) : fds;
}

export async function askMap(engine: EngineDoor, reference: MapReference, shown: string): Promise<MapView> {
  const map = await engine.query("map", { reference });
  if (map === null) throw new Problem("ENOENT", `there is no map ${shown}`, { errno: "ENOENT" });
  if (!("ambiguous" in map)) return map;
  const detail = `${map.ambiguous.length} maps have the name of ${shown}: ids ${map.ambiguous.join(", ")}`;
  throw new Problem("EINVAL", detail, { errno: "EINVAL" });
}

function missingSession(id: number, why: "ended" | "unknown"): never {
  if (why === "ended") throw new Problem("session-ended", `session ${id} has ended`);
  throw new Problem("no-such-session", `there is no session ${id}`);
}
