/**
 * Decides the commands of a batch, one after the other. A decision depends on the state and the command alone, so that
 * a replay needs no machine. Whatever else it needs is put into the command first: the time, the peer, the facts of a
 * real object (`opened_objects.ts`), and a refusal that only the host can know (`occupied.ts`).
 */

import { CMD } from "../abi/service.ts";
import { mayUseSessionOf } from "../access/caller.ts";
import { keptInput } from "../log/kept_input.ts";
import { PartFailed } from "../supervisor/derived_parts.ts";
import { withoutAbsent } from "../syscall/batch.ts";
import {
  type BatchCommand,
  type Command,
  cmdNumber,
  type ElementsCommand,
  type EndReason,
} from "../syscall/command.ts";
import { execute } from "../syscall/execute.ts";
import { asRead } from "../syscall/guards.ts";
import type { Outcome } from "../syscall/outcome.ts";
import type { State } from "../syscall/state.ts";
import type { CallerLimits } from "./caller_limits.ts";
import type { Moments } from "./moments.ts";
import { withOccupied } from "./occupied.ts";
import { dividedOn } from "./octets.ts";
import type { Opened } from "./opened_objects.ts";
import type { Mirror } from "./ports.ts";
import type { NotDone, Reply, Request } from "./request.ts";
import type { Mark, Uncommitted } from "./uncommitted.ts";

export interface DecisionsParts {
  readonly state: State;
  readonly batch: Uncommitted;
  readonly callerLimits: Pick<CallerLimits, "permitted">;
  readonly moments: Pick<Moments, "open">;
  readonly mirror: Pick<Mirror, "follows" | "occupied">;
  readonly report: (message: string, error: unknown) => void;
}

export class Decisions {
  readonly #parts: DecisionsParts;

  constructor(parts: DecisionsParts) {
    this.#parts = parts;
  }

  /**
   * Runs one request. SESSION_END first closes the session's descriptors, each by a CLOSE command. If any of these
   * commands fails, none has happened.
   */
  run(request: Request): Reply {
    if (request.cmd !== CMD.SESSION_END) return this.decide(request);
    const { batch } = this.#parts;
    const mark = batch.mark();
    try {
      for (const close of this.#closings(request)) {
        const reply = this.decide(close);
        if ("failure" in reply) return this.#undone(mark, reply);
      }
    } catch (error) {
      return this.#undone(mark, this.#failure(request, error));
    }
    const reply = this.decide(request);
    return "failure" in reply ? this.#undone(mark, reply) : reply;
  }

  #closings({ session, caller, peer, restore, attr }: Request & { readonly attr: unknown }): readonly Request[] {
    const { state } = this.#parts;
    const by = { session, caller, peer, ...(restore !== undefined && { restore }) };
    const { reason } = attr as { reason: EndReason };
    const opener = state.session(session)?.caller;
    if (opener === undefined || !mayUseSessionOf(opener, caller)) return [];
    return Array.from(state.fds.of(session), ([fd]) => ({ ...by, cmd: CMD.CLOSE, fd, attr: { reason } }));
  }

  #undone(mark: Mark, reply: NotDone): NotDone {
    this.#parts.batch.rollback(mark);
    return reply;
  }

  /** Decides one command. If it throws, it is rolled back: the state cannot be read, or this is a bug. */
  decide(request: Request): Reply {
    const { state, batch, mirror } = this.#parts;
    const { timeUs } = batch;
    const mark = batch.mark();
    let opened: Opened | null = null;
    try {
      if (request.cmd === CMD.OPEN) opened = batch.objects.open(request, timeUs);
      const said = opened?.request ?? request;
      let asked: Command = this.#saysPeer(request) ? { ...said, timeUs, peer: undefined } : { ...said, timeUs };
      if (request.limits !== undefined) {
        const permitted = this.#parts.callerLimits.permitted(asked, request.limits);
        if ("failure" in permitted) return permitted;
        asked = permitted;
      }
      const octets = request.octets === true;
      const whole = octets ? dividedOn(state, asked as Command & BatchCommand) : asked;
      if ("failure" in whole) return whole;
      const given = withOccupied(state, mirror, batch.changes, asRead(state, whole));
      const [done, outcome] = withoutAbsent(given, execute(state, given));
      const command = keptInput(done, outcome);
      if (command.imported === true && mirror.follows) batch.changes.imported(mark.changes);
      if (opened?.object) batch.objects.decided(opened.object, outcome);
      opened = null;
      const seq = batch.add(command, outcome);
      if (goesOn(request, outcome)) this.#parts.moments.open(seq, outcome.map);
      return octets ? { seq, outcome, given: (whole as BatchCommand).attr.count } : { seq, outcome };
    } catch (error) {
      return this.#undone(mark, this.#failure(request, error));
    } finally {
      opened?.object?.drop();
    }
  }

  #failure(request: Request, error: unknown): NotDone {
    this.#parts.report(`executing command ${cmdNumber(request)}`, error);
    if (error instanceof PartFailed)
      return { failure: error.fault.full ? "disk full" : "state failed", detail: error.message, done: "nothing" };
    return { failure: "bug", detail: "the command failed inside the service", done: "nothing" };
  }

  /** Whether a command has the peer of its session; its event then omits the peer. */
  #saysPeer({ session, peer }: Request): boolean {
    return peer !== undefined && session !== 0 && this.#parts.state.session(session)?.peer === peer;
  }
}

/**
 * Whether a page of elements has fewer than requested although more follow. Its reader then reads on as of the page's
 * event, so a moment must be opened.
 */
function goesOn(request: Request, { out }: Outcome): boolean {
  if (request.cmd !== CMD.MAP_ELEMENTS || out?.more !== true) return false;
  return (out.count ?? 0) < (request.attr as ElementsCommand["attr"]).limit;
}
