import { execFileSync } from "node:child_process";
import { probe } from "../../src/native/probe.ts";

export const BPFFS = "/sys/fs/bpf";

/** Test files run side by side: one of them mounts, the others find it mounted. */
const MOUNT_ONCE = `mountpoint -q ${BPFFS} || mount -t bpf bpf ${BPFFS}`;
const LOCK = "/tmp/mapledger-bpffs.lock";

/** Why tests on the live kernel cannot run here, found out by doing what they need; null on a machine that lets us. */
export function unfitForKernel(): string | null {
  const refused = probe();
  if (refused !== null) return refused;
  try {
    execFileSync("flock", [LOCK, "sh", "-c", MOUNT_ONCE], { stdio: "pipe" });
    return null;
  } catch (error) {
    return `mounting bpffs at ${BPFFS}: ${(error as Error).message}`;
  }
}
