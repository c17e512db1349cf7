import { ERRNO } from "../abi/errno.ts";
import type { Processes } from "../engine/ports.ts";
import type { Bpf } from "../native/bpf.ts";
import type { ClientProcess } from "../syscall/command.ts";
import { toHold } from "./descriptor_limit.ts";
import { bootId, haveExited, openPidfds, startTimeByPidfd } from "./pidfd.ts";

/**
 * A pidfd; "gone": the process has exited; "later": unknown at present, because no descriptors are left or /proc hides
 * the process.
 */
type Watch = number | "gone" | "later";

interface Watched {
  readonly process: ClientProcess;
  watch: Watch;
}

/** Errnos that mean that the process does not exist. EINVAL: the pid belongs to a thread by now. */
const GONE: readonly number[] = [-ERRNO.ESRCH, -ERRNO.EINVAL];

/**
 * The processes whose exit ends a session. Each is held by a pidfd, so that a later process with its pid is not taken
 * for it.
 */
export class WatchedProcesses implements Processes {
  readonly #watched = new Map<number, Watched>();
  #pidfds: ReturnType<typeof openPidfds> | undefined;

  watch(session: number, process: ClientProcess): void {
    this.#watched.set(session, { process, watch: this.#open(process) });
  }

  forget(session: number): void {
    const watch = this.#watched.get(session)?.watch;
    if (typeof watch === "number") this.#bpf()?.close(watch);
    this.#watched.delete(session);
  }

  exited(): readonly number[] {
    for (const watched of this.#watched.values())
      if (watched.watch === "later") watched.watch = this.#open(watched.process);
    const polled: number[] = [];
    const pidfds: number[] = [];
    const gone: number[] = [];
    for (const [session, { watch }] of this.#watched)
      if (watch === "gone") gone.push(session);
      else if (watch !== "later") {
        polled.push(session);
        pidfds.push(watch);
      }
    const bpf = this.#bpf();
    if (bpf === null) return gone;
    const exited = haveExited(bpf, pidfds);
    return [...gone, ...polled.filter((_, at) => exited[at])];
  }

  /**
   * Opens the pidfd before the start time is read: if the start time is the recorded one, the pidfd refers to the
   * recorded process.
   */
  #open({ pid, startTime, boot }: ClientProcess): Watch {
    try {
      if (boot !== bootId()) return "gone";
      const bpf = this.#bpf();
      if (bpf === null) return "later";
      const pidfd = bpf.pidfdOpen(pid);
      if (pidfd < 0) return GONE.includes(pidfd) ? "gone" : "later";
      return this.#settle(bpf, pidfd, startTimeByPidfd(bpf, pidfd, pid), startTime);
    } catch {
      return "later";
    }
  }

  #settle(bpf: Bpf, pidfd: number, found: string | number, wanted: string): Watch {
    const held = found === wanted ? toHold(bpf, pidfd) : -1;
    if (held >= 0) return held;
    if (found !== wanted) bpf.close(pidfd);
    if (typeof found === "number") return found === -ERRNO.ESRCH ? "gone" : "later";
    return found === wanted ? "later" : "gone";
  }

  /** null: this machine has no pidfds, or none at present. */
  #bpf(): Bpf | null {
    if (this.#pidfds === undefined || ("off" in this.#pidfds && this.#pidfds.later)) this.#pidfds = openPidfds();
    return "off" in this.#pidfds ? null : this.#pidfds;
  }
}
