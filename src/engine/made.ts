import { CMD } from "../abi/service.ts";
import type { Outcome } from "../syscall/outcome.ts";
import type { Request } from "./engine.ts";

/** In requests that run as one: the session, and the map, that an earlier one of them has made. */
export const MADE = 0xffff_ffff;

/** What has been made so far. */
export interface Made {
  session: number;
  map: number;
}

export function noteMade(made: Made, { out }: Outcome): void {
  made.session = out?.session_id ?? made.session;
  made.map = out?.map_id ?? made.map;
}

/** A request that speaks of what was made, in the numbers that it has come to have. */
export function withMade(request: Request, made: Made): Request {
  let known = request.session === MADE ? { ...request, session: made.session } : request;
  if ("target" in known && known.target.by === "id" && known.target.id === MADE)
    known = { ...known, target: { by: "id", id: made.map } };
  if ("attr" in known && known.cmd === CMD.BPF_MAP_GET_FD_BY_ID && known.attr.mapId === MADE)
    known = { ...known, attr: { ...known.attr, mapId: made.map } };
  return known;
}
