/**
 * The claim of a directory of pins: it is locked (`lock.ts`), marked with the log, its life and the data directory
 * (`mark.ts`), and has the progress of its kernel maps (`progress_map.ts`). Without the claim nothing is written to any
 * kernel map; see docs/mirror.md.
 *
 * A take-over is an event first, and a mark second. A process that dies between the two leaves the directory to its
 * former log. If the mark came first, the next start would repair kernel maps by a decision that no event records.
 */

import { unlinkSync } from "node:fs";
import type { LogEnd } from "../engine/ports.ts";
import type { Bpf } from "../native/bpf.ts";
import { makeDirectories } from "./directories.ts";
import { foreignPins, type Layout, makeOwn, refusedIn } from "./layout.ts";
import { DirectoryLock } from "./lock.ts";
import { differs, type Mark, readMark, writeMark } from "./mark.ts";
import { ProgressMap } from "./progress_map.ts";
import { errnoOf } from "./refusal.ts";
import { RefusedKeys } from "./refused_keys.ts";

/** The reason why the directory cannot be claimed. `owner`: the owner by the mark, if it is somebody else. */
export interface NotClaimed {
  readonly why: string;
  readonly owner: string | null;
}

/** Everything that a claim needs. */
export interface Claiming {
  readonly bpf: Bpf;
  readonly layout: Layout;
  readonly ours: Mark;
  readonly log: LogEnd;
}

/**
 * A directory of pins that this process has claimed for its log: locked, marked, and with the progress of its kernel
 * maps. A process without a claim writes to no kernel map. The claim ends if the path names another directory, or
 * nothing.
 */
export class Claim {
  readonly layout: Layout;
  readonly progress: ProgressMap;
  readonly refused: RefusedKeys;
  readonly #lock: DirectoryLock;
  readonly #ours: Mark;

  constructor(layout: Layout, kept: Kept, lock: DirectoryLock, ours: Mark) {
    this.layout = layout;
    this.progress = kept.progress;
    this.refused = kept.refused;
    this.#lock = lock;
    this.#ours = ours;
  }

  /** Claims the directory if no process holds it and its mark is this log's. Makes it if it does not exist. */
  static take(claiming: Claiming): Claim | NotClaimed {
    const held = HeldDirectory.hold(claiming);
    if (!(held instanceof HeldDirectory)) return held;
    const other = held.other();
    if (other === null) return held.mark();
    held.release();
    return other;
  }

  /**
   * Claims a directory whose kernel maps follow another log, or another history of this one, if no process holds it.
   * The progress of the kernel maps is then unknown. `record` is called before anything in the directory changes; it
   * records the take-over durably, and returns null, or the reason why it could not. A process that dies between the
   * two leaves the mark unchanged, so the next start still sees another log's directory. In the other order the next
   * start would repair kernel maps that nobody has decided about.
   */
  static takeOver(claiming: Claiming, record: (owner: string) => string | null): Claim | NotClaimed {
    const held = HeldDirectory.hold(claiming);
    if (!(held instanceof HeldDirectory)) return held;
    const { own, carried, refused: refusedKeys } = claiming.layout;
    const other = held.other();
    const why =
      other === null
        ? `the kernel maps in ${own} follow no other log than this one: there is nothing to take over`
        : record(other.owner ?? "unknown");
    if (why !== null) {
      held.release();
      return refused(why);
    }
    errnoOf(() => unlinkSync(carried));
    errnoOf(() => unlinkSync(refusedKeys));
    return held.mark();
  }

  /** Whether the path still names the claimed directory, with the mark that the claim set. */
  isStill(): boolean {
    if (!this.#lock.isStill()) return false;
    const mark = readMark(this.layout.own);
    return mark !== null && "log" in mark && differs(mark, this.#ours) === null;
  }

  /** Releases the lock. The progress map stays open, for kernel maps that are still held. */
  release(): void {
    this.#lock.release();
  }
}

/** A directory of pins that this process has locked, and not changed yet. */
export class HeldDirectory {
  readonly #claiming: Claiming;
  readonly #lock: DirectoryLock;

  private constructor(claiming: Claiming, lock: DirectoryLock) {
    this.#claiming = claiming;
    this.#lock = lock;
  }

  /**
   * Locks the directory if no process holds it; makes it if it does not exist. Refuses a directory with pins that may
   * not be mapledger's.
   */
  static hold(claiming: Claiming): HeldDirectory | NotClaimed {
    const { bpf, layout } = claiming;
    const unusable = makeOwn(layout);
    if (unusable !== null) return refused(unusable);
    const lock = DirectoryLock.take(bpf, layout.own);
    if ("refused" in lock) return refused(lock.refused);
    if ("heldBy" in lock)
      return refused(`${layout.own} is held by ${lock.heldBy}, which mirrors to it: one mapledger a directory`);
    const foreign = foreignPins(layout);
    if (foreign === null) return new HeldDirectory(claiming, lock);
    lock.release();
    return refused(foreign);
  }

  /** The reason why the kernel maps follow another log, or another history of this one; null if they do not. */
  other(): NotClaimed | null {
    const { bpf, layout, ours, log } = this.#claiming;
    const mark = readMark(layout.own);
    const why = mark === null ? null : differs(mark, ours);
    if (why !== null && mark !== null) return { why: `${layout.own}: ${why}`, owner: ownerOf(mark) };
    if (!ProgressMap.isAt(bpf, layout.carried)) return null;
    const progress = openProgress(bpf, layout);
    if (typeof progress === "string") return null;
    const ahead = aheadOf(progress, log, layout);
    progress.close();
    return ahead;
  }

  /** Sets this log's mark, which completes the claim. */
  mark(): Claim | NotClaimed {
    const { bpf, layout, ours } = this.#claiming;
    const kept = openKept(bpf, layout);
    const why = typeof kept === "string" ? kept : (writeMark(layout.own, ours) ?? makeById(layout));
    if (why === null) return new Claim(layout, kept as Kept, this.#lock, ours);
    if (typeof kept !== "string") {
      kept.progress.close();
      kept.refused.close();
    }
    this.release();
    return refused(why);
  }

  release(): void {
    this.#lock.release();
  }
}

/** Opens the progress map, or makes it. */
function openProgress(bpf: Bpf, layout: Layout): ProgressMap | string {
  const progress = ProgressMap.open(bpf, layout.carried);
  if (typeof progress !== "number") return progress;
  return refusedIn(layout.own, `opening ${layout.carried}`, progress) as string;
}

/** The two kernel maps in which the mirror records its state. */
interface Kept {
  readonly progress: ProgressMap;
  readonly refused: RefusedKeys;
}

function openKept(bpf: Bpf, layout: Layout): Kept | string {
  const progress = openProgress(bpf, layout);
  if (typeof progress === "string") return progress;
  const refused = RefusedKeys.open(bpf, layout.refused);
  if (typeof refused !== "number") return { progress, refused };
  progress.close();
  return refusedIn(layout.own, `opening ${layout.refused}`, refused) as string;
}

/** Refuses kernel maps whose progress names an event that the log lacks, or that differs from the log's event. */
function aheadOf(progress: ProgressMap, log: LogEnd, { own }: Layout): NotClaimed | null {
  const all = progress.all();
  if (all === null) return null;
  const is = `the kernel maps in ${own} have come to event ${all.seq}`;
  const owner = `log ${log.id} as it was up to event ${all.seq}`;
  if (all.seq > log.lastSeq) return { why: `${is}, and this log ends at event ${log.lastSeq}: ${TAKE_OVER}`, owner };
  const { hashed } = all;
  const hash = hashed === null ? null : log.hashOf(hashed.seq);
  if (hashed === null || hash === null || hash.equals(hashed.hash)) return null;
  return { why: `${is} of another history: its event ${hashed.seq} differs from this log's: ${TAKE_OVER}`, owner };
}

const TAKE_OVER = "run `mapledger take-over` to make them follow this one";

function makeById({ own, byIds }: Layout): string | null {
  return refusedIn(
    own,
    `making ${byIds}`,
    errnoOf(() => makeDirectories(byIds)),
  );
}

function ownerOf(mark: Exclude<ReturnType<typeof readMark>, null>): string | null {
  if ("log" in mark) return `log ${mark.log} in ${mark.data}`;
  return "old" in mark ? `log ${mark.old}` : null;
}

function refused(why: string): NotClaimed {
  return { why, owner: null };
}
