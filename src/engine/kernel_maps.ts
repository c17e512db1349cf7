/**
 * The engine's work on kernel maps. It takes them up when the mirror comes on, at a start or later (`taking_up.ts`),
 * compares them by each map's policy (`drift.ts`), follows pins that name another kernel map (`replaced_pins.ts`),
 * adopts (`adopt.ts`), and carries out orders of operators (`kernel_map_orders.ts`). It writes over no change of others
 * unless the map's policy or an order says so.
 */

import type { MapRecord } from "../maps/map.ts";
import type { Who } from "../syscall/command.ts";
import type { State } from "../syscall/state.ts";
import { type AdoptAnswer, type AdoptAsk, adopt } from "./adopt.ts";
import type { DriftAnswer } from "./comparisons.ts";
import { Drift } from "./drift.ts";
import { KernelMapOrders, type Order, type Ordered, type OrderOf, unsupported } from "./kernel_map_orders.ts";
import { Lags } from "./lags.ts";
import { Listings } from "./listings.ts";
import { type Counting, type MirrorCounts, MirrorNotes } from "./mirror_notes.ts";
import type { MirrorSources } from "./mirror_sources.ts";
import { mirrorDrift, mirrorResync, mirrorTakeOver } from "./own_commands.ts";
import type { Clock, KernelMapsAnswer, LogEnd, Mirror, MirrorChange, MirrorListing, MirrorRefusal } from "./ports.ts";
import { ReplacedPins } from "./replaced_pins.ts";
import type { Request, WholeReply } from "./request.ts";
import { TakingUp } from "./taking_up.ts";
import { visitMaps } from "./turns.ts";
import type { PastOfMaps, Windows } from "./windows.ts";

export interface KernelMapsParts {
  readonly mirror: Mirror;
  readonly state: State;
  readonly sources: MirrorSources;
  readonly log: LogEnd;
  readonly past: PastOfMaps;
  /** Runs commands of the service's own at once; answers whether the log has them. */
  readonly run: (requests: readonly Request[]) => boolean;
  readonly runWhole: (requests: readonly Request[]) => WholeReply;
  /** Becomes an event of the next batch. */
  readonly note: (request: Request) => void;
  readonly report: (message: string, error: unknown) => void;
  /** For operators. */
  readonly notice: (message: string) => void;
  readonly clock: Pick<Clock, "nowMs">;
}

/** How the mirror stands as a whole, and what there is in its directory of pins. */
export interface MirrorView extends MirrorListing {
  readonly off: string | null;
  /** Whose the directory of pins is, if it is somebody else's. */
  readonly owner: string | null;
  readonly maps: MirrorCounts;
}

const BEGIN_MS = 1000;
const IDENTIFY_AGAIN_MS = 60_000;

/** Takes kernel maps up, keeps them equal, and passes orders on. */
export class KernelMaps {
  readonly drift: Drift;
  readonly #parts: KernelMapsParts;
  readonly #notes: MirrorNotes;
  readonly #lags: Lags;
  readonly #takingUp: TakingUp;
  readonly #orders: KernelMapOrders;
  readonly #replaced: ReplacedPins;
  readonly #listings = new Listings();
  #beganMs = Number.NEGATIVE_INFINITY;
  /** When the last event may be hashed again, after the log could not be read. */
  #identifyAfterMs = Number.NEGATIVE_INFINITY;

  constructor(parts: KernelMapsParts) {
    const { mirror, state, sources, log, past, run, runWhole, note, notice, report, clock } = parts;
    this.#parts = parts;
    const notes = new MirrorNotes({ mirror, state, note, notice, report });
    const drift = new Drift({ mirror, sources, run, notes, clock });
    const lags = new Lags({ mirror, state, log, past, report });
    this.drift = drift;
    this.#notes = notes;
    this.#lags = lags;
    this.#takingUp = new TakingUp({ mirror, state, sources, drift, notes, lags });
    this.#orders = new KernelMapOrders({ mirror, state, sources, drift, notes, runWhole });
    this.#replaced = new ReplacedPins({ mirror, sources, drift, notes, run, adopt: (ask) => this.adopt(ask) });
  }

  /** Why kernel maps do not follow at present; null: they do. */
  get off(): string | null {
    return this.#parts.mirror.off;
  }

  /** Refusals of the kernel's since the start. */
  get refusalCount(): number {
    return this.#notes.refusalCount;
  }

  /** At a start: takes the directory of pins, if that can be had. To be called before anything is done again. */
  begin(windows: () => Windows): Windows | null {
    const { mirror, log } = this.#parts;
    if (!mirror.follows || mirror.begin(log) !== null) return null;
    const begun = windows();
    this.#lags.begin(begun);
    return begun;
  }

  /** At a start, when the state is what the log says. */
  async takeUpFirst(progress: (done: number, total: number) => void): Promise<void> {
    if (this.off === null) await this.#takingUp.all("at once", "start", this.#parts.log, progress);
  }

  /** What goes on beside commands; answers whether there is more to do at once. */
  step(): boolean {
    const { mirror } = this.#parts;
    if (mirror.off !== null) {
      if (mirror.follows) this.#tryToBegin();
    } else if (!this.#takingUp.isUnderWay) {
      this.#retry();
      this.#watch();
      this.#identify();
    }
    const listing = this.#listings.step();
    return this.drift.step() || listing;
  }

  /** At a stop: the directory of pins says which event its kernel maps have come to. */
  end(): void {
    if (!this.#takingUp.isUnderWay) this.#identify();
  }

  #identify(): void {
    const { mirror, log, clock, report } = this.#parts;
    if (clock.nowMs() < this.#identifyAfterMs) return;
    try {
      mirror.identify(log);
    } catch (error) {
      this.#identifyAfterMs = clock.nowMs() + IDENTIFY_AGAIN_MS;
      report("hashing the event that the kernel maps have come to", error);
    }
  }

  #tryToBegin(): void {
    const { mirror, log, clock } = this.#parts;
    if (this.#takingUp.isUnderWay || clock.nowMs() - this.#beganMs < BEGIN_MS) return;
    this.#beganMs = clock.nowMs();
    if (mirror.begin(log) === null) this.#takeUpBeside("on");
  }

  #takeUpBeside(why: string): void {
    this.#notes.found([{ mapId: 0, what: "on", detail: `kernel maps follow the ledger again: ${why}` }]);
    this.#takingUp
      .all("beside", why, this.#parts.log, () => {})
      .catch((error) => this.#parts.report("taking kernel maps up", error));
  }

  #retry(): void {
    const { mirror, sources } = this.#parts;
    const { repaired, refusals, drifted, reopen } = mirror.retry((map) => sources.of(map));
    for (const map of repaired) {
      this.#notes.resynced(map, "retry");
    }
    this.refused(refusals);
    for (const { map, keys } of drifted) this.#drifted(map, keys);
    for (const map of reopen) this.#reopen(map, "retry");
  }

  /** Elements whose write was refused, and that somebody else has changed since: both have. */
  #drifted(map: number, keys: readonly Buffer[]): void {
    const record = this.#parts.state.map(map);
    if (record === undefined) return;
    const policy = this.#takingUp.policyOf(record);
    const first = keys.slice(0, 10).map((key) => key.toString("hex"));
    const counts = { missing: 0, changed: keys.length, extra: 0, both_changed: keys.length };
    const attr = { policy, ...counts, at: "retry", first_keys: first };
    if (!this.#parts.run([mirrorDrift(map, attr)]) || policy === "report") return;
    this.drift.decide(map, policy === "import" ? "kernel" : "ledger", keys);
    this.#parts.mirror.takenUp(map, "unknown");
  }

  #reopen(map: number, at: string): void {
    const { mirror, state, report } = this.#parts;
    if (state.map(map) === undefined) return;
    this.#takingUp
      .one(map, "beside", at)
      .then(() => {
        if (mirror.status(map).state === "on") this.#notes.resynced(map, at);
      })
      .catch((error) => report("taking a kernel map up again", error));
  }

  #watch(): void {
    const { mirror, sources } = this.#parts;
    const { found, former, replaced, reopen } = mirror.watch(() => sources.all());
    this.#notes.found(found);
    for (const one of former) this.#notes.livesOn(one);
    for (const { map, kernelId, pin } of replaced) this.#follow(map, kernelId, pin);
    for (const map of reopen) this.#reopen(map, "watch");
  }

  #follow(map: number, kernelId: number, pin: string): void {
    if (this.#takingUp.isUnderWay || this.#replaced.isUnfollowed(map, kernelId)) return;
    this.#takingUp
      .alone(() => this.#replaced.follow(map, kernelId, pin))
      .catch((error) => this.#parts.report("following the pin of an adopted map", error));
  }

  /** Makes a kernel map that some other program has made a map of the ledger's. */
  adopt(ask: AdoptAsk): AdoptAnswer {
    const { mirror, state, runWhole } = this.#parts;
    return adopt({ mirror, bpffs: state.bpffs, runWhole }, ask);
  }

  /** Compares a map with its kernel map now, and does what its policy says. Answers what has differed. */
  async resync(map: number, who: Who): Promise<DriftAnswer> {
    const { mirror, state, run } = this.#parts;
    const record = state.map(map);
    if (record === undefined) return { gone: true };
    if (mirror.off !== null) return { untold: mirror.off };
    run([mirrorResync(map, who, "resync")]);
    const status = mirror.status(map);
    if (status.state !== "on" && status.state !== "lost")
      return (await this.#takingUp.one(map, "beside", "resync")) ?? this.drift.report(map, 0);
    return mirror.traits(record).compared
      ? this.drift.settle(map, this.#takingUp.policyOf(record), null, "resync")
      : this.drift.report(map, 0);
  }

  /** Does what an operator orders: the order is an event before anything is done. */
  order(order: Order): Ordered | Promise<Ordered> {
    const { follows, off } = this.#parts.mirror;
    if (off !== null && (order.what !== "take over" || !follows)) return unsupported(off);
    switch (order.what) {
      case "decide":
        return this.#orders.decide(order);
      case "recreate":
        return this.#orders.recreate(order);
      case "release":
        return this.#orders.release(order);
      case "repin":
        return this.#orders.repin(order);
      case "take over":
        return this.#takeOver(order);
    }
  }

  /**
   * Gives the directory of pins to this log: from then on every map is in policy `report` until somebody decides. The event
   * comes before the mark: the mark alone would have the next start repair kernel maps.
   */
  #takeOver({ directory, ...who }: OrderOf<"take over">): Ordered {
    const { mirror, log } = this.#parts;
    if (mirror.off === null) return { refused: { errno: "EINVAL", detail: "the kernel maps follow this log already" } };
    let done = null as Ordered | null;
    const why = mirror.takeOver(log, (owner) => {
      done = this.#orders.record(mirrorTakeOver(who, directory, owner));
      return "seq" in done ? null : "the take-over could not be recorded";
    });
    if (done !== null && !("seq" in done)) return done;
    if (done === null || why !== null) return { refused: { errno: "EBUSY", detail: why ?? "nothing was recorded" } };
    this.#takeUpBeside("take-over");
    return done;
  }

  /** How the mirror stands as a whole. Maps are counted a piece a turn. */
  async view(): Promise<MirrorView> {
    const { mirror, state } = this.#parts;
    const ledger = {
      map: (id: number) => state.map(id),
      lastMap: state.lastId("map"),
      pinned: () => state.bpffs.pinned(),
    };
    const listing = await this.#listings.add(mirror.listed(ledger));
    const maps = this.noCounts();
    await visitMaps(state, ({ id }) => this.count(id, maps));
    return { off: mirror.off, owner: mirror.owner, ...listing, maps };
  }

  noCounts(): Counting {
    return this.#notes.noCounts();
  }

  /** Counts how a map stands with its kernel map. */
  count(id: number, counts: Counting): void {
    this.#notes.count(id, counts);
  }

  /** Why what the kernel has of a map cannot be taken over, or null. */
  cannotImport(map: MapRecord): string | null {
    return this.#parts.mirror.cannotImport(map);
  }

  /** All of the machine's kernel maps, looked up piece by piece between batches. */
  kernelMaps(): Promise<KernelMapsAnswer> {
    const { mirror, state } = this.#parts;
    return this.#listings.add(mirror.kernelMaps((kernelId, boot) => state.formerMap(kernelId, boot)));
  }

  /** The kernel has refused the mirror something. */
  refused(refusals: readonly MirrorRefusal[]): void {
    this.#notes.refused(refusals);
  }

  /** The mirror has carried a batch. */
  applied(changes: readonly MirrorChange[]): void {
    for (const change of changes) {
      if (change.kind === "create") this.#takingUp.stand(change.map.id);
      else if (change.kind === "free") this.#notes.forget(change.map.id);
    }
  }

  /** Until when a map's kernel map is being made and filled; null: it is not. */
  making(id: number): Promise<void> | null {
    return this.#takingUp.making(id);
  }
}
