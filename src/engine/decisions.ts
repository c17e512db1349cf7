/**
 * Decides the commands of a batch, one after the other. A decision depends on the state and the command alone, so that
 * a replay needs no machine. Whatever else it needs is put into the command first: the time, the peer, the facts of a
 * real object (`opened_objects.ts`), and a refusal that only the host can know (`occupied.ts`).
 */

import { CMD } from "../abi/service.ts";
import { mayUseSessionOf } from "../access/caller.ts";
import { keptInput } from "../log/kept_input.ts";
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
import type { Reply, Request } from "./request.ts";
import type { Uncommitted } from "./uncommitted.ts";

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

  /** Runs one request. SESSION_END first closes the session's descriptors, each by a CLOSE command. */
  run(request: Request): Reply {
    if (request.cmd === CMD.SESSION_END) this.#closeAll(request);
    return this.decide(request);
  }

  #closeAll({ session, caller, peer, restore, attr }: Request & { readonly attr: unknown }): void {
    const { state } = this.#parts;
    const by = { session, caller, peer, ...(restore !== undefined && { restore }) };
    const { reason } = attr as { reason: EndReason };
    const opener = state.session(session)?.caller;
    if (opener !== undefined && mayUseSessionOf(opener, caller))
      for (const [fd] of [...state.fds.of(session)]) this.decide({ ...by, cmd: CMD.CLOSE, fd, attr: { reason } });
  }

  /** Decides one command. If it throws, it is rolled back, and the reply is a failure "bug". */
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
      batch.rollback(mark);
      this.#parts.report(`executing command ${cmdNumber(request)}`, error);
      return { failure: "bug", detail: "the command failed inside the service", done: "nothing" };
    } finally {
      opened?.object?.drop();
    }
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
