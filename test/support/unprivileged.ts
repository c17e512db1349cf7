import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { unfitForMounts } from "./pinning.ts";

/** A user that no /etc/passwd has; another one in each test, so that their processes are told apart. */
export const USER = 60_000 + (process.pid % 5000);

/** What a service needs for its kernel maps. */
export const THREE = ["bpf", "net_admin", "perfmon"] as const;

/**
 * The words of a command that turns into what stands behind them, as systemd starts a service with User=, AmbientCapabilities=,
 * CapabilityBoundingSet= and NoNewPrivileges=: as a user without a name and with these capabilities alone.
 */
export function asUser(capabilities: readonly string[], user = USER): readonly string[] {
  const set = ["-all", ...capabilities.map((name) => `+${name}`)].join(",");
  const ids = [`--reuid=${user}`, `--regid=${user}`, "--clear-groups"];
  const sets = [`--bounding-set=${set}`, `--inh-caps=${set}`, `--ambient-caps=${set}`];
  // The test runner would have each child write into a directory of root's.
  return ["setpriv", ...ids, ...sets, "--no-new-privs", "env", "-u", "NODE_OPTIONS"];
}

/** The same, where /proc shows a process to its own user alone, as systemd's ProtectProc=invisible has it. */
export function withHiddenProcesses(run: readonly string[]): readonly string[] {
  const mount = 'mount -t proc -o hidepid=invisible proc /proc && exec "$@"';
  return ["unshare", "--mount", "--propagation=private", "sh", "-c", mount, "sh", ...run];
}

/** The same, with a bpffs of the user's own at a directory, which other processes do not see. */
export function withOwnBpffs(directory: string, run: readonly string[]): readonly string[] {
  const mount = `mount -t bpf -o uid=${USER},gid=${USER},mode=0700 bpf ${directory} && exec "$@"`;
  return ["unshare", "--mount", "--propagation=private", "sh", "-c", mount, "sh", ...run];
}

/** Why tests cannot start a service as another user here; null: they can. */
export function unfitForUsers(): string | null {
  if (process.getuid?.() !== 0) return "only root can be another user";
  try {
    const [command, ...words] = asUser(THREE) as [string, ...string[]];
    execFileSync(command, [...words, "true"], { stdio: "pipe" });
  } catch (error) {
    return `setpriv(1): ${(error as Error).message}`;
  }
  return unfitForMounts();
}

/** Gives a directory and all that is in it to the user. */
export function give(path: string, user = USER): void {
  execFileSync("chown", ["-R", `${user}:${user}`, path]);
}

/** Processes that run as the user. */
export function processesOf(user = USER): readonly string[] {
  return readdirSync("/proc").filter((pid) => /^\d+$/.test(pid) && uidOf(pid) === user);
}

function uidOf(pid: string): number | null {
  try {
    return Number(/^Uid:\t\d+\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]);
  } catch {
    return null;
  }
}
