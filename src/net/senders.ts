/**
 * Fairness between senders. A sender may have thousands of connections, and send on each of them again as soon as it is
 * answered: all of these requests would be parsed in one turn of the event loop, and run in one batch, and everybody
 * else would wait behind them. So while several senders are active and one has AT_ONCE_MAX requests under way, its
 * connections that are answered are not read until it is their turn again, in the order in which they were answered. A
 * sender that is alone is not held back.
 *
 * What has been read is not held back: the first requests of new connections, and those that all come at once after a
 * pause.
 */

import { type Pausable, pauseFor, resumeFrom, SENDER } from "./pauses.ts";

const AT_ONCE_MAX = 128;
/** A request that is not answered by the fast path takes about so many times as long. */
const OTHER_COST = 4;
/** A sender that has sent nothing for this time, or up to twice as long, is not active. */
const ACTIVE_MS = 500;

interface Connection extends Pausable {
  readonly destroyed: boolean;
}

export class Senders {
  readonly #byName = new Map<string, Sender>();
  readonly #waiting = new Set<Sender>();
  /** Stretches of ACTIVE_MS are numbered. */
  #stretch = 1;
  #active = 0;
  #activeBefore = 0;
  #timer: NodeJS.Timeout | null = null;
  #isScheduled = false;

  /** The same for everybody who has no name yet. Names are those of known callers, so there are few. */
  of(name: string): Sender {
    const known = this.#byName.get(name);
    if (known !== undefined) return known;
    const sender = new Sender(this);
    this.#byName.set(name, sender);
    return sender;
  }

  /** More than one is active. */
  get areSeveral(): boolean {
    return this.#active > 1 || this.#activeBefore > 1;
  }

  /** Called by senders at each request, with the stretch in which they were active last. Returns the present one. */
  active(last: number): number {
    if (last === this.#stretch) return last;
    this.#active++;
    this.#plan();
    return this.#stretch;
  }

  #plan(): void {
    this.#timer ??= setTimeout(() => this.#nextStretch(), ACTIVE_MS).unref();
  }

  #nextStretch(): void {
    this.#timer = null;
    this.#stretch++;
    this.#activeBefore = this.#active;
    this.#active = 0;
    if (this.#activeBefore > 0) this.#plan();
  }

  /** Called by senders that have connections to read on with. */
  waits(sender: Sender): void {
    this.#waiting.add(sender);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => this.#turn());
  }

  #turn(): void {
    this.#isScheduled = false;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const sender of waiting) sender.readOn();
  }
}

/** The connections of one sender, over all servers that share the senders. */
export class Sender {
  readonly #senders: Senders;
  /** In the order in which they were answered. */
  readonly #held = new Set<Connection>();
  #underWay = 0;
  /** Requests of other kinds since the last turn. */
  #others = 0;
  #activeIn = 0;

  constructor(senders: Senders) {
    this.#senders = senders;
  }

  /** A request has begun that is answered soon; `answered` must be called for it. */
  began(): void {
    this.#activeIn = this.#senders.active(this.#activeIn);
    this.#underWay++;
  }

  answered(connection: Connection): void {
    this.#underWay--;
    this.#hold(connection);
    if (this.#held.size > 0) this.#senders.waits(this);
  }

  /** A request has begun that may last: a stream does for days. `otherAnswered` must be called for it. */
  otherBegan(): void {
    this.#activeIn = this.#senders.active(this.#activeIn);
    this.#others++;
    this.#senders.waits(this);
  }

  otherAnswered(connection: Connection): void {
    this.#hold(connection);
  }

  /** Reads as many connections as may have a request now. Those that have none leave their place to others in the next turn. */
  readOn(): void {
    const most = this.#others > 0 ? AT_ONCE_MAX / OTHER_COST : AT_ONCE_MAX;
    let free = this.#senders.areSeveral ? most - this.#underWay : Number.POSITIVE_INFINITY;
    this.#others = 0;
    if (free <= 0) return;
    for (const connection of this.#held) {
      if (free-- <= 0) break;
      this.#held.delete(connection);
      resumeFrom(connection, SENDER);
    }
    if (this.#held.size > 0) this.#senders.waits(this);
  }

  #hold(connection: Connection): void {
    if (connection.destroyed || !this.#senders.areSeveral) return;
    if (this.#held.size === 0 && this.#underWay + this.#others * OTHER_COST < AT_ONCE_MAX) return;
    this.#held.add(connection);
    pauseFor(connection, SENDER);
  }
}
