/**
 * Finds the process at the other end of a connection, for a session that is to live by it (`engine/leases.ts`), in the
 * service's thread. It takes a pidfd, reads /proc, and uses what it read only if the process still lives afterwards.
 * Pid, start time and boot come with the command.
 */

import { readFileSync } from "node:fs";
import { ERRNO, errnoName } from "../abi/errno.ts";
import type { Bpf } from "../native/bpf.ts";
import type { ClientProcess } from "../syscall/command.ts";
import { refusedFor } from "./capability.ts";
import { bootId, HIDDEN, haveExited, openPidfds, startTimeByPidfd } from "./pidfd.ts";

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
/** struct ucred: pid, uid, gid. */
const CREDENTIALS_BYTES = 12;
const UID_AT = 4;
/** Since Linux 6.5. */
const SO_PEERPIDFD = 77;
const ENOPROTOOPT = 92;
const ROOT = 0;

/** The reason why a client's process cannot be found. */
export interface NoProcess {
  readonly refused: "no-process" | "process-foreign" | "process-hidden";
  readonly detail: string;
}

interface Living {
  readonly process: ClientProcess;
  /**
   * Whether the process is in a pid namespace below the service's, so that pids that it names are not the service's.
   */
  readonly isNested: boolean;
}

/** Finds the processes at the other ends of unix sockets. */
export class ClientProcesses {
  #pidfds: ReturnType<typeof openPidfds> | undefined;

  /**
   * The effective uid and the pid of the process that made the connection; `socket` is this end of it. null if the
   * machine does not report them. `pid` 0: the process is in a pid namespace that the service does not see.
   */
  peerOf(socket: number): { readonly uid: number; readonly pid: number } | null {
    this.#pidfds ??= openPidfds();
    const bpf = this.#pidfds;
    const credentials = "off" in bpf ? null : option(bpf, socket, SO_PEERCRED, CREDENTIALS_BYTES);
    if (!Buffer.isBuffer(credentials)) return null;
    return { uid: credentials.readUInt32LE(UID_AT), pid: credentials.readInt32LE(0) };
  }

  /**
   * The process that made the connection, or, if `pid` is given, the process with that pid. The latter must run as the
   * same uid as the client, unless the client is root.
   */
  find(socket: number, pid: number | null): ClientProcess | NoProcess {
    if (this.#pidfds === undefined || ("off" in this.#pidfds && this.#pidfds.later)) this.#pidfds = openPidfds();
    const bpf = this.#pidfds;
    if ("off" in bpf) return none(`processes cannot be watched on this machine: ${bpf.off}`);
    const peer = peerOf(bpf, socket);
    if ("refused" in peer || pid === null) return "refused" in peer ? peer : peer.process;
    if (peer.isNested)
      return none(
        'the client is in a pid namespace of its own, with other pids than the service has: "peer" binds to it',
      );
    const named = livingAs(bpf, pid, bpf.pidfdOpen(pid));
    if ("refused" in named) return named;
    const { uid } = peer.process;
    if (uid === ROOT || uid === named.process.uid) return named.process;
    return {
      refused: "process-foreign",
      detail: `process ${pid} is of uid ${named.process.uid}, the client of ${uid}`,
    };
  }
}

/**
 * The kernel keeps the uid and pid of the process that connected. With SO_PEERPIDFD it keeps the process itself;
 * without, another process may have the pid by now.
 */
function peerOf(bpf: Bpf, socket: number): Living | NoProcess {
  const credentials = option(bpf, socket, SO_PEERCRED, CREDENTIALS_BYTES);
  if (typeof credentials === "number") return none(`SO_PEERCRED is refused: ${errnoName(-credentials)}`);
  const pid = credentials.readInt32LE(0);
  const uid = credentials.readUInt32LE(UID_AT);
  if (pid === 0) return none("the client is in a pid namespace that the service does not see");
  const kept = option(bpf, socket, SO_PEERPIDFD, 4);
  const isKept = kept !== -ENOPROTOOPT;
  const peer = livingAs(
    bpf,
    pid,
    typeof kept === "number" ? (isKept ? kept : bpf.pidfdOpen(pid)) : kept.readInt32LE(0),
  );
  if ("refused" in peer) return peer;
  if (!isKept && peer.process.uid !== uid)
    return none(`process ${pid} is of uid ${peer.process.uid}: the process that connected was of ${uid}`);
  return { ...peer, process: { ...peer.process, uid } };
}

/** The value of getsockopt(2), or a negative errno. */
function option(bpf: Bpf, socket: number, name: number, bytes: number): Buffer | number {
  const value = Buffer.alloc(bytes);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes);
  const ret = bpf.libc("getsockopt", socket, SOL_SOCKET, name, value, length);
  return ret < 0 ? ret : value;
}

/**
 * Reads /proc/PID of a process and closes its pidfd. If the process still lives after the read, the data belongs to it
 * and not to a later process with its pid.
 */
function livingAs(bpf: Bpf, pid: number, pidfd: number): Living | NoProcess {
  if (pidfd === -ERRNO.ESRCH || pidfd === -ERRNO.EINVAL) return none(`there is no process ${pid}`);
  if (pidfd < 0) return none(`opening process ${pid}: ${errnoName(-pidfd)}`);
  try {
    const startTime = startTimeByPidfd(bpf, pidfd, pid);
    if (startTime === -ERRNO.EPERM) return hidden(pid);
    if (typeof startTime === "number") return none(`reading /proc of process ${pid}: ${errnoName(-startTime)}`);
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const process = { pid, uid: effectiveUid(status), startTime, boot: bootId() };
    return haveExited(bpf, [pidfd])[0] ? none(`process ${pid} has exited`) : { process, isNested: isNested(status) };
  } catch (error) {
    return none(`reading /proc of process ${pid}: ${(error as NodeJS.ErrnoException).code}`);
  } finally {
    bpf.close(pidfd);
  }
}

/** The second of four uids: real, effective, saved, file system. */
function effectiveUid(status: string): number {
  return Number(/^Uid:\t\d+\t(\d+)/m.exec(status)?.[1]);
}

/** NSpid lists the pid in the namespace of /proc, and in each namespace below it, down to the process's own. */
function isNested(status: string): boolean {
  return /^NSpid:\t\d+\t/m.test(status);
}

function hidden(pid: number): NoProcess {
  const detail = refusedFor(`reading /proc of process ${pid}, ${HIDDEN}`, -ERRNO.EPERM, ["CAP_SYS_PTRACE"]);
  return { refused: "process-hidden", detail };
}

function none(detail: string): NoProcess {
  return { refused: "no-process", detail };
}
