import { chmodSync, mkdirSync } from "node:fs";
import { dirname } from "node:path";

/**
 * The mode that mkdir(1) gives with umask 022. Programs must be able to pass through directories of pins; each pin has
 * its own mode.
 */
const PASSABLE = 0o755;

/**
 * Makes a directory on bpffs and its parents with a mode that lets all users pass, whatever the umask is. Existing
 * directories keep their modes.
 */
export function makeDirectories(path: string, mode = PASSABLE): void {
  const first = mkdirSync(path, { recursive: true });
  if (first === undefined) return;
  for (let made = path; made.length >= first.length; made = dirname(made)) chmodSync(made, mode);
}
