import { errnoName } from "../abi/errno.ts";
import { CMD, cmdName } from "../abi/service.ts";
import { isOfMaps } from "../maps/facts.ts";
import type { MapRecord } from "../maps/map.ts";
import type { KernelMapCommand, Who } from "../syscall/command.ts";
import type { State } from "../syscall/state.ts";
import { type AdoptAnswer, type AdoptAsk, adoptRequests } from "./adopt.ts";
import { Drift, type DriftAnswer, policyOf } from "./drift.ts";
import type { MirrorSources } from "./mirror_sources.ts";
import {
  kernelMapOrder,
  mirrorDecide,
  mirrorDrift,
  mirrorFollow,
  mirrorFound,
  mirrorFreed,
  mirrorRefused,
  mirrorRepin,
  mirrorResync,
  mirrorTakeOver,
  SERVICE,
} from "./own_commands.ts";
import type {
  Clock,
  ForeignMap,
  KernelMapsAnswer,
  LogEnd,
  Mirror,
  MirrorChange,
  MirrorFinding,
  MirrorListing,
  MirrorRefusal,
  MirrorSource,
  MirrorStatus,
  MirrorWatch,
} from "./ports.ts";
import type { NotDone, Request, WholeReply } from "./request.ts";
import { visitMaps } from "./turns.ts";
import type { PastOfMaps, Stale, Window, Windows } from "./windows.ts";

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

/** What operators order about kernel maps. */
export type Order = Who &
  (
    | {
        readonly what: "decide";
        readonly map: number;
        readonly take: "ledger" | "kernel";
        readonly keys: readonly string[] | null;
      }
    | { readonly what: "recreate" | "release"; readonly map: number }
    | { readonly what: "repin"; readonly map: number; readonly pathname: string }
    | { readonly what: "take over"; readonly directory: string }
  );

/** The order's event; or why it was not done. */
export type Ordered =
  | {
      readonly seq: number;
      /** Of a repin: where the object that was pinned there is pinned from now on; null: there was none. */
      readonly aside?: string | null;
    }
  | { readonly refused: { readonly errno: string; readonly detail: string } }
  | NotDone;

/** How many maps are in each state of MirrorStatus; of those that are on, how many are known to differ. */
export type MirrorCounts = Readonly<Counting>;

/** The same while maps are counted. */
type Counting = Record<MirrorStatus["state"] | "unequal", number>;

/** How the mirror stands as a whole, and what there is in its directory of pins. */
export interface MirrorView extends MirrorListing {
  readonly off: string | null;
  /** Whose the directory of pins is, if it is somebody else's. */
  readonly owner: string | null;
  readonly maps: MirrorCounts;
}

const BEGIN_MS = 1000;
const IDENTIFY_AGAIN_MS = 60_000;
/** How kernel maps are taken up: at once, where nothing is served before; piece by piece beside commands. */
type Way = "at once" | "beside";

/**
 * What the engine does about kernel maps: takes them up when the mirror can be on, keeps them equal by each map's policy, and
 * does what operators order. Nothing of it writes over what others have made unless the map's policy or an order says so.
 */
export class KernelMaps {
  readonly drift: Drift;
  refusalCount = 0;
  readonly #parts: KernelMapsParts;
  #windows: Windows | null = null;
  #beganMs = Number.NEGATIVE_INFINITY;
  #takingUp = false;
  /** When the last event may be hashed again, after the log could not be read. */
  #identifyAfterMs = Number.NEGATIVE_INFINITY;
  /** Each answers whoever asked with its last piece. */
  readonly #listings: Generator<void>[] = [];
  /** Maps whose pin names another kernel map, which cannot be followed; and what it was. */
  readonly #unfollowed = new Map<number, number>();
  /** Maps whose kernel map is being made, and until when. */
  readonly #makings = new Map<number, Promise<void>>();
  /** Maps whose kernel map does not follow, and the state in which operators have been told of them. */
  readonly #said = new Map<number, string>();

  constructor(parts: KernelMapsParts) {
    this.#parts = parts;
    this.drift = new Drift({
      mirror: parts.mirror,
      sourceOf: (map) => parts.sources.of(map),
      run: parts.run,
      refused: (refusals) => this.refused(refusals),
      clock: parts.clock,
    });
  }

  /** Why kernel maps do not follow at present; null: they do. */
  get off(): string | null {
    return this.#parts.mirror.off;
  }

  /** At a start: takes the directory of pins, if that can be had. To be called before anything is done again. */
  begin(windows: () => Windows): Windows | null {
    const { mirror, log } = this.#parts;
    if (!mirror.follows || mirror.begin(log) !== null) return null;
    this.#windows = windows();
    return this.#windows;
  }

  /** At a start, when the state is what the log says. */
  async takeUpFirst(progress: (done: number, total: number) => void): Promise<void> {
    if (this.#parts.mirror.off !== null) return;
    await this.#takeUp("at once", "start", progress);
  }

  /** What goes on beside commands; answers whether there is more to do at once. */
  step(): boolean {
    const { mirror } = this.#parts;
    if (mirror.off !== null) {
      if (mirror.follows) this.#tryToBegin();
    } else if (!this.#takingUp) {
      this.#retry();
      this.#watch();
      this.#identify();
    }
    const listing = this.#list();
    return this.drift.step() || listing;
  }

  /** At a stop: the directory of pins says which event its kernel maps have come to. */
  end(): void {
    if (!this.#takingUp) this.#identify();
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
    if (this.#takingUp || clock.nowMs() - this.#beganMs < BEGIN_MS) return;
    this.#beganMs = clock.nowMs();
    if (mirror.begin(log) === null) this.#takeUpBeside("on");
  }

  #takeUpBeside(why: string): void {
    this.#found([{ mapId: 0, what: "on", detail: `kernel maps follow the ledger again: ${why}` }]);
    void this.#takeUp("beside", why, () => {}).catch((error) => this.#parts.report("taking kernel maps up", error));
  }

  async #takeUp(way: Way, at: string, progress: (done: number, total: number) => void): Promise<void> {
    const { mirror, sources, state, log } = this.#parts;
    this.#takingUp = true;
    try {
      if (way === "beside") mirror.takeUpObjects(state.objects.all());
      const stale = await this.#stale();
      // Before anything is pinned: another map may be pinned where a stale pin is.
      if (stale !== null) this.refused(mirror.dropStale(stillGone(state, stale), stalePins(state, stale)));
      this.refused(mirror.ensureDirectories([...state.directories()]));
      const ids = innerFirst(sources.all()).map(({ map }) => map.id);
      for (const [done, id] of ids.entries()) {
        await this.#takeUpMap(id, way, at);
        if (mirror.off !== null) return;
        progress(done + 1, ids.length);
      }
      mirror.reached(log.lastSeq);
    } finally {
      this.#windows = null;
      this.#takingUp = false;
    }
  }

  /** Answers what has differed; null: it was not compared. */
  async #takeUpMap(id: number, way: Way, at: string): Promise<DriftAnswer | null> {
    const { mirror, sources } = this.#parts;
    const found = sources.of(id);
    if (found === null) return null;
    const { opening, refusals } = mirror.open(found);
    this.refused(refusals);
    if (opening === "none") {
      this.#stand(id);
      return null;
    }
    // Its pins are there again before the past is asked, which may take a while.
    const since = opening === "made" ? null : await this.#windowOf(id);
    const source = sources.of(id);
    if (source === null) return null;
    const { compared } = mirror.traits(source.map);
    const window = since === null || since === "born" ? since : mirror.lacks(source.map, since);
    let differed: DriftAnswer | null = null;
    if (opening === "made") mirror.takenUp(id, compared ? "yes" : "unknown");
    else if (opening === "found" && compared) differed = await this.#settle(source.map, way, window, at);
    else if (opening === "found") {
      this.refused(mirror.catchUp(source, window === "born" ? bornOf(source) : window));
      mirror.takenUp(id, "unknown");
    }
    this.#say(id);
    return differed;
  }

  async #settle(map: MapRecord, way: Way, window: Window, at: string): Promise<DriftAnswer> {
    const { drift } = this;
    const policy = this.#policyOf(map);
    return way === "beside" ? drift.settle(map.id, policy, window, at) : drift.settleNow(map.id, policy, window, at);
  }

  /** What is done about drift now: what cannot be imported is reported. */
  #policyOf(map: MapRecord): ReturnType<typeof policyOf> {
    const policy = policyOf(map);
    return policy === "import" && this.#parts.mirror.cannotImport(map) !== null ? "report" : policy;
  }

  /** What the ledger did to a map while its kernel map did not follow. */
  async #windowOf(map: number): Promise<Window> {
    const { mirror, past, log } = this.#parts;
    const known = this.#windows?.of(map);
    if (known !== undefined && (known === null || known === "born" || !("since" in known))) return known;
    const place = mirror.place(map);
    if (place === null) return null;
    if (place >= log.lastSeq) return [];
    return this.#asked(past.since(map, place));
  }

  async #stale(): Promise<Stale | null> {
    const { mirror, past, state, log } = this.#parts;
    const known = this.#windows?.stale ?? null;
    const { carried } = mirror;
    if (known !== null || carried === null) return known;
    if (carried >= log.lastSeq) return { maps: new Set(), pins: [] };
    const stood = await this.#asked(past.stood(carried));
    if (stood === null) return null;
    return { maps: new Set(stood.maps.filter((map) => state.map(map) === undefined)), pins: stood.pins };
  }

  async #asked<Answer>(answer: Promise<Answer | null>): Promise<Answer | null> {
    try {
      return await answer;
    } catch (error) {
      this.#parts.report(
        "asking the past what kernel maps lack: nothing of theirs is taken for the ledger's own",
        error,
      );
      return null;
    }
  }

  #retry(): void {
    const { mirror, sources } = this.#parts;
    const { repaired, refusals, drifted, reopen } = mirror.retry((map) => sources.of(map));
    for (const map of repaired) {
      this.#parts.note(mirrorResync(map, SERVICE, "retry"));
      this.#say(map);
    }
    this.refused(refusals);
    for (const { map, keys } of drifted) this.#drifted(map, keys);
    for (const map of reopen) this.#reopen(map, "retry");
  }

  /** Elements whose write was refused, and that somebody else has changed since: both have. */
  #drifted(map: number, keys: readonly Buffer[]): void {
    const record = this.#parts.state.map(map);
    if (record === undefined) return;
    const policy = this.#policyOf(record);
    const first = keys.slice(0, 10).map((key) => key.toString("hex"));
    const counts = { missing: 0, changed: keys.length, extra: 0, both_changed: keys.length };
    const attr = { policy, ...counts, at: "retry", first_keys: first };
    if (!this.#parts.run([mirrorDrift(map, attr)]) || policy === "report") return;
    this.drift.decide(map, policy === "import" ? "kernel" : "ledger", keys);
    this.#parts.mirror.takenUp(map, "unknown");
  }

  #reopen(map: number, at: string): void {
    const known = this.#parts.state.map(map);
    if (known === undefined) return;
    this.#takeUpMap(map, "beside", at)
      .then(() => {
        if (this.#parts.mirror.status(map).state === "on") this.#parts.note(mirrorResync(map, SERVICE, at));
      })
      .catch((error) => this.#parts.report("taking a kernel map up again", error));
  }

  #watch(): void {
    const { mirror, sources } = this.#parts;
    const watch: MirrorWatch = mirror.watch(() => sources.all());
    this.#found(watch.found);
    for (const former of watch.former) this.#parts.note(mirrorFreed(former));
    for (const { map, kernelId, pin } of watch.replaced) this.#follow(map, kernelId, pin);
    for (const map of watch.reopen) this.#reopen(map, "watch");
  }

  /** The pin of an adopted map names another kernel map: the map follows it, or becomes another of the same pathname. */
  #follow(mapId: number, kernelId: number, pin: string): void {
    const { state, sources, mirror } = this.#parts;
    if (this.#unfollowed.get(mapId) === kernelId || this.#takingUp) return;
    this.#takingUp = true;
    this.#followNow(mapId, kernelId, pin)
      .then((why) => {
        if (why === null) return;
        this.#unfollowed.set(mapId, kernelId);
        const source = sources.of(mapId);
        if (source !== null && state.map(mapId) !== undefined)
          mirror.lost(mapId, `${pin} names kernel map ${kernelId} now, which cannot be followed: ${why}`);
        this.#found([{ mapId, what: "not followed", path: pin, kernelId, detail: why }]);
      })
      .catch((error) => this.#parts.report("following the pin of an adopted map", error))
      .finally(() => {
        this.#takingUp = false;
      });
  }

  /** Null, or why not. */
  async #followNow(mapId: number, kernelId: number, pin: string): Promise<string | null> {
    const { mirror, state, sources } = this.#parts;
    const before = state.map(mapId);
    if (before === undefined) return null;
    const importable = mirror.cannotImport(before) === null;
    // What the old one came to is recorded before the map leaves it.
    if (importable && mirror.status(mapId).state !== "waiting")
      await this.drift.settle(mapId, "import", null, "replaced");
    const done = mirror.adopting<"followed" | { readonly errno: string; readonly detail: string } | "another shape">(
      { pinned: pin },
      (foreign) => {
        if (foreign.facts.id !== kernelId) return { errno: "EAGAIN", detail: "the pin names yet another by now" };
        if (!importable || !isAlike(before, foreign.facts)) return "another shape";
        const ran = this.#parts.run([mirrorFollow(mapId, kernelId, before.adopted ?? 0, pin)]);
        return ran ? "followed" : { errno: "EIO", detail: "the log did not take it" };
      },
    );
    if (typeof done === "object") return "refused" in done ? done.refused.detail : done.detail;
    if (done === "another shape") return this.#adoptAnew(before, kernelId, pin);
    const map = state.map(mapId);
    const source = sources.of(mapId);
    if (map === undefined || source === null) return null;
    this.refused(mirror.follow(map));
    await this.drift.settle(mapId, "import", null, "followed");
    this.#resyncOuter(mapId);
    return null;
  }

  /** A map of the same pathname takes the place of one whose pin names a kernel map of another definition. */
  #adoptAnew(before: MapRecord, kernelId: number, pin: string): string | null {
    const pathname = this.#parts.sources.of(before.id)?.pathnames[0];
    if (pathname === undefined) return "it is pinned nowhere in the ledger, so that no other map can take its place";
    const detail = `${pin} names a kernel map of another definition: another map takes the place of map ${before.id} at ${pathname}`;
    this.#found([{ mapId: before.id, what: "pin names another definition", path: pin, kernelId, detail }]);
    const answer = this.adopt({
      which: { pinned: pin },
      pathname,
      replaces: pathname,
      caller: SERVICE.caller,
      drift: before.drift ?? null,
      onReplace: before.onReplace ?? "follow",
    });
    return "refused" in answer ? answer.refused.detail : "failure" in answer ? answer.detail : null;
  }

  /** Maps of maps of the ledger's own that hold a map whose kernel map is another now. */
  #resyncOuter(inner: number): void {
    for (const { map } of this.#parts.sources.all())
      if (map.id !== inner && isOfMaps(map.type)) void this.drift.settle(map.id, policyOf(map), null, "inner map");
  }

  // What operators order.

  /** Makes a kernel map that some other program has made a map of the ledger's. */
  adopt(ask: AdoptAsk): AdoptAnswer {
    const { mirror, state } = this.#parts;
    return mirror.adopting<AdoptAnswer>(ask.which, (foreign) => {
      const importing = ask.drift?.policy === "import" && ask.replaces === undefined;
      const cannot = importing
        ? mirror.cannotImport({ ...foreign.facts, ...NOT_CREATED, adopted: foreign.facts.id })
        : null;
      if (cannot !== null) return unsupported(`nothing can be imported: ${cannot}`);
      const requests = adoptRequests(foreign, ask, state);
      if ("errno" in requests) return { refused: requests };
      const done = this.#parts.runWhole(requests);
      if ("refused" in done) {
        const { errno, detail } = done.refused;
        return { refused: { errno: errnoName(errno), detail: `${cmdName(done.cmd)}: ${detail}` } };
      }
      if ("failure" in done) return done;
      if (!("replies" in done)) throw new Error("adopting a kernel map: its map has changed before it was there");
      const pinned = done.replies.at(-2) as { outcome: { map: number } };
      return { map: pinned.outcome.map, seq: (done.replies.at(-1) as { seq: number }).seq };
    });
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
      return (await this.#takeUpMap(map, "beside", "resync")) ?? this.drift.report(map, 0);
    return mirror.traits(record).compared
      ? this.drift.settle(map, this.#policyOf(record), null, "resync")
      : this.drift.report(map, 0);
  }

  /** Does what an operator orders: the order is an event before anything is done. */
  order(order: Order): Ordered | Promise<Ordered> {
    const { follows, off } = this.#parts.mirror;
    if (off !== null && (order.what !== "take over" || !follows)) return unsupported(off);
    switch (order.what) {
      case "decide":
        return this.#decide(order);
      case "recreate":
        return this.#onKernelMap(order, CMD.MIRROR_RECREATE, (map) => {
          const source = this.#parts.sources.of(map);
          if (source !== null) this.refused(this.#parts.mirror.recreate(source));
          this.#resyncOuter(map);
        });
      case "release":
        return this.#onKernelMap(order, CMD.MIRROR_RELEASE, (map) => this.refused(this.#parts.mirror.letGo(map)));
      case "repin":
        return this.#repin(order);
      case "take over":
        return this.#takeOver(order);
    }
  }

  #run(request: Request): Ordered {
    const done = this.#parts.runWhole([request]);
    if ("replies" in done) return { seq: (done.replies[0] as { seq: number }).seq };
    if ("refused" in done) {
      const { errno, detail } = done.refused;
      return { refused: { errno: errnoName(errno), detail: detail ?? errnoName(errno) } };
    }
    return "failure" in done ? done : { refused: { errno: "EAGAIN", detail: "the map has changed meanwhile" } };
  }

  /** Whose values are right: of all elements, or of those with these keys. */
  async #decide({ map, take, keys, ...who }: Extract<Order, { what: "decide" }>): Promise<Ordered> {
    const { state, mirror } = this.#parts;
    const record = state.map(map);
    const status = mirror.status(map);
    if (record !== undefined && status.state !== "on" && !("kernelId" in status))
      return unsupported(`there is no kernel map to decide about: ${status.detail}`);
    if (record !== undefined && !mirror.traits(record).compared)
      return unsupported(
        "the kernel does not show the elements of a map of this type, so that nothing can be compared",
      );
    const cannot = record === undefined || take === "ledger" ? null : mirror.cannotImport(record);
    if (cannot !== null) return unsupported(`nothing can be imported: ${cannot}`);
    const done = this.#run(mirrorDecide(map, who, take, keys));
    if (!("seq" in done)) return done;
    if (keys === null) await this.drift.settle(map, take === "kernel" ? "import" : "repair", null, "decided");
    else
      this.drift.decide(
        map,
        take,
        keys.map((key) => Buffer.from(key, "hex")),
      );
    return done;
  }

  #onKernelMap(
    { map, ...who }: { readonly map: number } & Who,
    cmd: KernelMapCommand["cmd"],
    act: (map: number) => void,
  ): Ordered {
    const status = this.#parts.mirror.status(map);
    const was = "kernelId" in status ? (status.kernelId ?? null) : null;
    const done = this.#run(kernelMapOrder(cmd, map, who, was));
    if (!("seq" in done)) return done;
    act(map);
    this.#say(map);
    return done;
  }

  /** Puts a map's pin back where another object is pinned, which is put aside. */
  #repin({ map, pathname, ...who }: Extract<Order, { what: "repin" }>): Ordered {
    const { mirror, state } = this.#parts;
    const record = state.map(map);
    if (record === undefined || state.pinAt(pathname) !== map)
      return { refused: { errno: "ENOENT", detail: `map ${map} is not pinned at ${pathname}` } };
    const done = mirror.repin(record, pathname);
    if (!("aside" in done)) return { refused: { errno: done.errno, detail: done.detail } };
    const recorded = this.#run(mirrorRepin(map, who, pathname, done.aside));
    return "seq" in recorded ? { ...recorded, aside: done.aside } : recorded;
  }

  /**
   * Gives the directory of pins to this log: from then on every map is in policy `report` until somebody decides. The event
   * comes before the mark: the mark alone would have the next start repair kernel maps.
   */
  #takeOver({ directory, ...who }: Extract<Order, { what: "take over" }>): Ordered {
    const { mirror, log } = this.#parts;
    if (mirror.off === null) return { refused: { errno: "EINVAL", detail: "the kernel maps follow this log already" } };
    let done = null as Ordered | null;
    const why = mirror.takeOver(log, (owner) => {
      done = this.#run(mirrorTakeOver(who, directory, owner));
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
      pinned: () => state.pinned(),
    };
    const listing = await this.#listed(mirror.listed(ledger));
    const maps = this.noCounts();
    await visitMaps(state, ({ id }) => this.count(id, maps));
    return { off: mirror.off, owner: mirror.owner, ...listing, maps };
  }

  noCounts(): Counting {
    return { on: 0, failed: 0, lost: 0, waiting: 0, off: 0, unequal: 0 };
  }

  /** Counts how a map stands with its kernel map. */
  count(id: number, counts: Counting): void {
    const status = this.#parts.mirror.status(id);
    counts[status.state]++;
    if (status.state === "on" && status.equal === "no") counts.unequal++;
  }

  /** Why what the kernel has of a map cannot be taken over, or null. */
  cannotImport(map: MapRecord): string | null {
    return this.#parts.mirror.cannotImport(map);
  }

  /** All of the machine's kernel maps, looked up piece by piece between batches. */
  kernelMaps(): Promise<KernelMapsAnswer> {
    const { mirror, state } = this.#parts;
    const steps = mirror.kernelMaps((kernelId, boot) => state.formerMap(kernelId, boot));
    return this.#listed(steps);
  }

  /** What `steps` end with, looked up piece by piece between batches. */
  #listed<Found>(steps: Generator<void, Found>): Promise<Found> {
    return new Promise((resolve, reject) => {
      this.#listings.push(
        (function* () {
          try {
            resolve(yield* steps);
          } catch (error) {
            reject(error as Error);
          }
        })(),
      );
    });
  }

  /** Answers whether there is more to look up. */
  #list(): boolean {
    if (this.#listings[0]?.next().done === true) this.#listings.shift();
    return this.#listings.length > 0;
  }

  refused(refusals: readonly MirrorRefusal[]): void {
    for (const refusal of refusals) {
      this.#parts.note(mirrorRefused(refusal));
      this.#say(refusal.mapId);
    }
    this.refusalCount += refusals.length;
  }

  /** The mirror has carried a batch. */
  applied(changes: readonly MirrorChange[]): void {
    for (const change of changes) {
      if (change.kind === "create") this.#stand(change.map.id);
      else if (change.kind === "free") this.#said.delete(change.map.id);
    }
  }

  #found(found: readonly MirrorFinding[]): void {
    for (const finding of found) {
      this.#parts.note(mirrorFound(finding));
      this.#say(finding.mapId);
    }
  }

  /** One that is being made is taken up when it has been: until then nobody need be told. */
  #stand(id: number): void {
    const making = this.#parts.mirror.making(id);
    if (making === null) this.#say(id);
    else if (!this.#makings.has(id)) {
      const takenUp = making
        .then(() => {
          this.#makings.delete(id);
          // While it is off nothing is written; whatever turns it on takes all maps up.
          return this.#parts.mirror.off === null ? this.#takeUpMap(id, "beside", "making") : null;
        })
        .then(
          () => {},
          (error) => this.#parts.report("taking up a kernel map that was made", error),
        );
      this.#makings.set(id, takenUp);
    }
  }

  /** Until when a map's kernel map is being made and filled; null: it is not. */
  making(id: number): Promise<void> | null {
    return this.#makings.get(id) ?? null;
  }

  /** Operators are told of a map whose kernel map does not follow, once while it stands so. */
  #say(id: number): void {
    const { mirror, state, notice } = this.#parts;
    const map = state.map(id);
    if (map === undefined || mirror.off !== null) return;
    const status = mirror.status(id);
    if (this.#said.get(id) === status.state) return;
    if (status.state === "on") this.#said.delete(id);
    else {
      this.#said.set(id, status.state);
      notice(
        `the kernel map of map ${id} (${map.name}) does not follow it, its state is ${status.state}: ${status.detail}`,
      );
    }
  }
}

/** Of a map that has no record yet. */
const NOT_CREATED = { numaNode: -1, exclusive: false, inner: null, special: [], owner: null } as const;

function unsupported(detail: string): { readonly refused: { readonly errno: string; readonly detail: string } } {
  return { refused: { errno: "EOPNOTSUPP", detail } };
}

/** Maps of maps need the kernel maps of the maps that they hold. */
function innerFirst(sources: Iterable<MirrorSource>): MirrorSource[] {
  const all = [...sources];
  const isOuter = ({ map }: MirrorSource): boolean => isOfMaps(map.type);
  return [...all.filter((source) => !isOuter(source)), ...all.filter(isOuter)];
}

function stillGone(state: State, { maps }: Stale): ReadonlySet<number> {
  return new Set([...maps].filter((map) => state.map(map) === undefined));
}

function stalePins(state: State, { pins }: Stale): Stale["pins"] {
  return pins.filter(({ pathname, map }) => state.pinAt(pathname) !== map);
}

/** Every element of a map that was born while its kernel map did not follow came since. */
function bornOf(source: MirrorSource): { key: Buffer; before: null }[] {
  return [...source.elements()].map(({ key }) => ({ key, before: null }));
}

function isAlike(map: MapRecord, facts: ForeignMap["facts"]): boolean {
  return (
    map.type === facts.type &&
    map.keySize === facts.keySize &&
    map.valueSize === facts.valueSize &&
    map.maxEntries === facts.maxEntries &&
    map.mapFlags === facts.mapFlags &&
    map.name === facts.name &&
    map.mapExtra === facts.mapExtra &&
    map.frozen === facts.frozen
  );
}
