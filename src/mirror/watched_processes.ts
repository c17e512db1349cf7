import { ERRNO } from "../abi/errno.ts";
import type { Processes } from "../engine/ports.ts";
import type { ClientProcess } from "../syscall/command.ts";
import type { Bpf } from "./bpf.ts";
import { bootId, haveExited, openPidfds, startTimeOf } from "./pidfd.ts";

/** A pidfd; "gone": its process is no more; "later": no descriptor was free, or no memory. */
type Watch = number | "gone" | "later";

interface Watched {
  readonly process: ClientProcess;
  watch: Watch;
}

const ENFILE = 23;
/** pidfd_open(2) was refused for want of something that may be there again. */
const LATER: readonly number[] = [-ERRNO.EMFILE, -ENFILE, -ERRNO.ENOMEM];

/** The processes that sessions live by, each held by a pidfd of the service's own: whoever gets its pid later is another. */
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

  /** Opened before its start time is read: if that is the one that is wanted, so is what was opened. */
  #open({ pid, startTime, boot }: ClientProcess): Watch {
    const bpf = this.#bpf();
    if (bpf === null || boot !== bootId()) return "gone";
    const pidfd = bpf.pidfdOpen(pid);
    if (pidfd < 0) return LATER.includes(pidfd) ? "later" : "gone";
    if (foundStartTime(pid) === startTime) return pidfd;
    bpf.close(pidfd);
    return "gone";
  }

  /** null: this machine has no pidfds; no session of its own lives by a process. */
  #bpf(): Bpf | null {
    this.#pidfds ??= openPidfds();
    return "off" in this.#pidfds ? null : this.#pidfds;
  }
}

function foundStartTime(pid: number): string | null {
  try {
    return startTimeOf(pid);
  } catch {
    return null;
  }
}
