/**
 * The engine's work on kernel maps. It takes them up when the mirror comes on, at a start or later (`taking_up.ts`),
 * compares them by each map's policy (`drift.ts`), follows pins that name another kernel map (`replaced_pins.ts`),
 * adopts (`adopt.ts`), and carries out orders of operators (`kernel_map_orders.ts`). It writes over changes of others
 * only if the map's policy or an order says so.
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
import { type MirrorCounts, MirrorNotes } from "./mirror_notes.ts";
import { MirrorSources } from "./mirror_sources.ts";
import { mirrorDrift, mirrorResync, mirrorTakeOver } from "./own_commands.ts";
import { PinsClaim } from "./pins_claim.ts";
import type { Clock, KernelMapsAnswer, LogEnd, Mirror, MirrorChange, MirrorListing } from "./ports.ts";
import { ReplacedPins } from "./replaced_pins.ts";
import type { Request, WholeReply } from "./request.ts";
import { TakingUp } from "./taking_up.ts";
import { visitMaps } from "./turns.ts";
import { type PastOfMaps, Windows } from "./windows.ts";

export interface KernelMapsParts {
  readonly mirror: Mirror;
  readonly state: State;
  readonly history: { readonly log: LogEnd; readonly past: PastOfMaps };
  readonly commands: OwnCommands;
  readonly operators: Operators;
  readonly clock: Pick<Clock, "nowMs">;
}

/** Runs the engine's own commands. */
interface OwnCommands {
  /** Runs commands at once. Returns whether the log has them. */
  readonly run: (requests: readonly Request[]) => boolean;
  readonly runWhole: (requests: readonly Request[]) => WholeReply;
  /** Adds an event to the next batch. */
  readonly note: (request: Request) => void;
}

/** Informs operators. */
interface Operators {
  /** Called with bugs and with failures of the machine. */
  readonly report: (message: string, error: unknown) => void;
  /** Called with maps whose kernel map does not follow. */
  readonly notice: (message: string) => void;
}

/** The status of the mirror, and the pins in its directory. */
export interface MirrorView extends MirrorListing {
  readonly off: string | null;
  /** The owner of the directory of pins; null: nobody, or this log. */
  readonly owner: string | null;
  readonly maps: MirrorCounts;
}

export class KernelMaps {
  readonly drift: Drift;
  readonly #parts: KernelMapsParts;
  readonly #sources: MirrorSources;
  readonly #claim: PinsClaim;
  readonly #notes: MirrorNotes;
  readonly #lags: Lags;
  readonly #takingUp: TakingUp;
  readonly #orders: KernelMapOrders;
  readonly #replaced: ReplacedPins;
  readonly #listings = new Listings();

  constructor(parts: KernelMapsParts) {
    const { mirror, state, clock } = parts;
    const { log, past } = parts.history;
    const { run, runWhole, note } = parts.commands;
    const { report, notice } = parts.operators;
    const sources = new MirrorSources(state);
    this.#parts = parts;
    this.#sources = sources;
    const notes = new MirrorNotes({ mirror, state, note, notice, report });
    const drift = new Drift({ mirror, sources, run, notes, clock });
    const lags = new Lags({ mirror, state, log, past, report });
    this.drift = drift;
    this.#claim = new PinsClaim({ mirror, log, clock, report });
    this.#notes = notes;
    this.#lags = lags;
    this.#takingUp = new TakingUp({ mirror, state, sources, drift, notes, lags });
    this.#orders = new KernelMapOrders({ mirror, state, sources, drift, notes, runWhole });
    this.#replaced = new ReplacedPins({ mirror, sources, drift, notes, run, adopt: (ask) => this.adopt(ask) });
  }

  /** The reason why kernel maps do not follow at present; null: they follow. */
  get off(): string | null {
    return this.#parts.mirror.off;
  }

  /** The kernel's refusals since the start. */
  get refusalCount(): number {
    return this.#notes.refusalCount;
  }

  /**
   * At a start, before events are redone: claims the directory of pins. Returns the windows that the recovery must
   * note; null: the mirror is off. `state`: the one in which the events after `from` are redone.
   */
  begin(state: State, from: number): Windows | null {
    const { mirror } = this.#parts;
    if (!this.#claim.begin()) return null;
    const windows = new Windows(state, from, mirror.carried, (map) => mirror.place(map));
    this.#lags.begin(windows);
    return windows;
  }

  /** At a start, after the recovery: takes up all kernel maps, if the mirror is on. */
  async takeUpFirst(progress: (done: number, total: number) => void): Promise<void> {
    if (this.off === null) await this.#takingUp.all("at once", "start", this.#parts.history.log, progress);
  }

  /** Does a piece of the work beside commands. Returns whether there is more to do at once. */
  step(): boolean {
    const { mirror } = this.#parts;
    if (mirror.off !== null) {
      if (!this.#takingUp.isUnderWay && this.#claim.beginAgain()) this.#takeUpBeside("on");
    } else if (!this.#takingUp.isUnderWay) {
      this.#retry();
      this.#watch();
      this.#claim.identify();
    }
    const listing = this.#listings.step();
    return this.drift.step() || listing;
  }

  /** At a stop: records the event that the kernel maps have reached. */
  end(): void {
    if (!this.#takingUp.isUnderWay) this.#claim.identify();
  }

  #takeUpBeside(why: string): void {
    this.#notes.found([{ mapId: 0, what: "on", detail: `kernel maps follow the ledger again: ${why}` }]);
    this.#takingUp
      .all("beside", why, this.#parts.history.log, () => {})
      .catch((error) => this.#parts.operators.report("taking kernel maps up", error));
  }

  #retry(): void {
    const { repaired, refusals, drifted, reopen } = this.#parts.mirror.retry((map) => this.#sources.of(map));
    for (const map of repaired) {
      this.#notes.resynced(map, "retry");
    }
    this.#notes.refused(refusals);
    for (const { map, keys } of drifted) this.#drifted(map, keys);
    for (const map of reopen) this.#reopen(map);
  }

  /** Records and settles drift: elements whose write was refused, and that somebody else has changed since. */
  #drifted(map: number, keys: readonly Buffer[]): void {
    const record = this.#parts.state.map(map);
    if (record === undefined) return;
    const policy = this.#takingUp.policyOf(record);
    const first = keys.slice(0, 10).map((key) => key.toString("hex"));
    const counts = { missing: 0, changed: keys.length, extra: 0, both_changed: keys.length };
    const attr = { policy, ...counts, at: "retry", first_keys: first };
    if (!this.#parts.commands.run([mirrorDrift(map, attr)]) || policy === "report") return;
    this.drift.decide(map, policy === "import" ? "kernel" : "ledger", keys);
    this.#parts.mirror.takenUp(map, "unknown");
  }

  #reopen(map: number): void {
    const { mirror, state, operators } = this.#parts;
    if (state.map(map) === undefined) return;
    this.#takingUp
      .one(map, "beside", "retry")
      .then(() => {
        if (mirror.status(map).state === "on") this.#notes.resynced(map, "retry");
      })
      .catch((error) => operators.report("taking a kernel map up again", error));
  }

  #watch(): void {
    const { found, former, replaced } = this.#parts.mirror.watch(() => this.#sources.all());
    this.#notes.found(found);
    for (const one of former) this.#notes.livesOn(one);
    for (const { map, kernelId, pin } of replaced) this.#follow(map, kernelId, pin);
  }

  #follow(map: number, kernelId: number, pin: string): void {
    if (this.#takingUp.isUnderWay || this.#replaced.isUnfollowed(map, kernelId)) return;
    this.#takingUp
      .alone(() => this.#replaced.follow(map, kernelId, pin))
      .catch((error) => this.#parts.operators.report("following the pin of an adopted map", error));
  }

  adopt(ask: AdoptAsk): AdoptAnswer {
    const { mirror, state, commands } = this.#parts;
    return adopt({ mirror, bpffs: state.bpffs, runWhole: commands.runWhole }, ask);
  }

  /** Compares a map with its kernel map now, and acts by the map's policy. Resolves to the differences. */
  async resync(map: number, who: Who): Promise<DriftAnswer> {
    const { mirror, state, commands } = this.#parts;
    const record = state.map(map);
    if (record === undefined) return { gone: true };
    if (mirror.off !== null) return { untold: mirror.off };
    commands.run([mirrorResync(map, who, "resync")]);
    const status = mirror.status(map);
    if (status.state !== "on" && status.state !== "lost")
      return (await this.#takingUp.one(map, "beside", "resync")) ?? this.drift.report(map, 0);
    return mirror.traits(record).compared
      ? this.drift.settle(map, this.#takingUp.policyOf(record), null, "resync")
      : this.drift.report(map, 0);
  }

  /** Carries out an order of an operator. */
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
   * Gives the directory of pins to this log: from then on every map has the policy `report` until somebody decides. The
   * event comes before the mark. If the mark came first and the process died, the next start would repair kernel maps.
   */
  #takeOver({ directory, ...who }: OrderOf<"take over">): Ordered {
    if (this.off === null) return { refused: { errno: "EINVAL", detail: "the kernel maps follow this log already" } };
    let done = null as Ordered | null;
    const why = this.#claim.takeOver((owner) => {
      done = this.#orders.record(mirrorTakeOver(who, directory, owner));
      return "seq" in done ? null : "the take-over could not be recorded";
    });
    if (done !== null && !("seq" in done)) return done;
    if (done === null || why !== null) return { refused: { errno: "EBUSY", detail: why ?? "nothing was recorded" } };
    this.#takeUpBeside("take-over");
    return done;
  }

  /** The status of the mirror. Counts some maps in each turn of the event loop. */
  async view(): Promise<MirrorView> {
    const { mirror, state } = this.#parts;
    const ledger = {
      map: (id: number) => state.map(id),
      lastMap: state.lastId("map"),
      pinned: () => state.bpffs.pinned(),
    };
    const listing = await this.#listings.add(mirror.listed(ledger));
    return { off: mirror.off, owner: mirror.owner, ...listing, maps: await this.counts() };
  }

  /** The number of maps by the status of their kernel map. They are visited some in each turn if the mirror is on. */
  async counts(): Promise<MirrorCounts> {
    const { state } = this.#parts;
    const counts = this.#notes.noCounts();
    if (this.off !== null) return { ...counts, off: state.mapCount };
    await visitMaps(state, ({ id }) => this.#notes.count(id, counts));
    return counts;
  }

  /** The reason why a map cannot import elements of its kernel map; null: it can. */
  cannotImport(map: MapRecord): string | null {
    return this.#parts.mirror.cannotImport(map);
  }

  /** All kernel maps of the machine, listed in pieces between batches. */
  kernelMaps(): Promise<KernelMapsAnswer> {
    const { mirror, state } = this.#parts;
    return this.#listings.add(mirror.kernelMaps((kernelId, boot) => state.former.of(kernelId, boot)));
  }

  /**
   * Applies the changes of a batch that ends with the event `seq`. Its commands are durable already, so a failure is
   * only reported.
   */
  apply(changes: readonly MirrorChange[], seq: number): void {
    try {
      this.#notes.refused(this.#parts.mirror.apply(changes, seq));
      for (const change of changes) {
        if (change.kind === "create") this.#takingUp.stand(change.map.id);
        else if (change.kind === "free") this.#notes.forget(change.map.id);
      }
    } catch (error) {
      this.#parts.operators.report("carrying changes into kernel maps", error);
    }
  }

  /** Resolves when a map's kernel map has been made and filled; null: none is being made. */
  making(id: number): Promise<void> | null {
    return this.#takingUp.making(id);
  }
}
