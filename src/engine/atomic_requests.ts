/**
 * Requests that run as one: all succeed, or none happens. Restores, adoptions and orders of operators are such. A later
 * request can name the session or the map that an earlier one made: it has MADE in place of the id.
 */

import { FIRST_FD } from "../abi/limits.ts";
import { CMD } from "../abi/service.ts";
import { eventRow } from "../log/event.ts";
import { touchedMaps } from "../log/event_subjects.ts";
import type { Action, Origin } from "../syscall/command.ts";
import { commandFacts } from "../syscall/command_facts.ts";
import type { Outcome } from "../syscall/outcome.ts";
import type { EventLog } from "./ports.ts";
import type { Ran, Reply, Request, WholeReply } from "./request.ts";
import type { Uncommitted } from "./uncommitted.ts";

/** In place of an id: the session, or the map, that an earlier request has made. */
export const MADE = 0xffff_ffff;

/** The ids that were made last; 0: none yet. */
interface Made {
  session: number;
  map: number;
}

function noteMade(made: Made, { out }: Outcome): void {
  made.session = out?.session_id ?? made.session;
  made.map = out?.map_id ?? made.map;
}

/** The request with the actual ids in place of MADE. */
function withMade(request: Request, made: Made): Request {
  let known = request.session === MADE ? { ...request, session: made.session } : request;
  if ("target" in known && known.target.by === "id" && known.target.id === MADE)
    known = { ...known, target: { by: "id", id: made.map } };
  if (known.cmd === CMD.BPF_MAP_GET_FD_BY_ID && known.attr.mapId === MADE)
    known = { ...known, attr: { ...known.attr, mapId: made.map } };
  return known;
}

/** Decides requests in order. If one is refused, all are rolled back. */
export function decideWhole(
  batch: Uncommitted,
  requests: readonly Request[],
  decide: (request: Request) => Reply,
): WholeReply {
  const mark = batch.mark();
  const made: Made = { session: 0, map: 0 };
  const replies: Ran[] = [];
  for (const request of requests) {
    const reply = decide(withMade(request, made));
    if ("failure" in reply || reply.outcome.errno !== 0) {
      batch.rollback(mark);
      return "failure" in reply ? reply : { refused: reply.outcome, cmd: request.cmd };
    }
    replies.push(reply);
    noteMade(made, reply.outcome);
  }
  return { replies };
}

/** Whether any event after a seq may have changed a map. */
export function hasChanged(
  log: Pick<EventLog, "read">,
  { map, seq }: { readonly map: number; readonly seq: number },
): boolean {
  for (const event of log.read(seq)) {
    const row = eventRow(event);
    if (commandFacts(row.cmd)?.leavesMaps !== true && touchedMaps(row, event.outcome.out).has(map)) return true;
  }
  return false;
}

const TTL_MS = 60_000;

/** Collects requests that run as one. If any needs a descriptor, a session is opened for them first. */
export class Whole {
  readonly requests: Request[] = [];
  readonly #who: Pick<Origin, "caller" | "peer" | "restore">;
  readonly #name: string;
  #hasSession = false;
  readonly #fds = new Set<number>();

  /** `name`: the name of that session. */
  constructor(who: Pick<Origin, "caller" | "peer" | "restore">, name: string) {
    this.#who = who;
    this.#name = name;
  }

  add(action: Action & Pick<Origin, "imported">, session = 0): void {
    this.requests.push({ ...action, session, ...this.#who });
  }

  /** Adds a command that opens a descriptor. Returns the descriptor's number, the lowest that is free. */
  open(action: Action): number {
    if (!this.#hasSession) this.add({ cmd: CMD.SESSION_OPEN, attr: { name: this.#name, ttlMs: TTL_MS } });
    this.#hasSession = true;
    this.add(action, MADE);
    let fd = FIRST_FD;
    while (this.#fds.has(fd)) fd++;
    this.#fds.add(fd);
    return fd;
  }

  close(fd: number): void {
    this.#fds.delete(fd);
    this.add({ cmd: CMD.CLOSE, fd, attr: { reason: "close" } }, MADE);
  }

  end(): void {
    if (this.#hasSession) this.add({ cmd: CMD.SESSION_END, attr: { reason: "ended by request" } }, MADE);
  }
}
