import { chmodSync, mkdirSync } from "node:fs";
import { dirname } from "node:path";

/** What mkdir(1) gives where the umask is 022. Programs pass through directories of pins; each pin has modes of its own. */
const PASSABLE = 0o755;

/** Makes a directory on bpffs and those above it, if they are not there, for all to pass through: whatever the service's umask is. */
export function makeDirectories(path: string, mode = PASSABLE): void {
  const first = mkdirSync(path, { recursive: true });
  if (first === undefined) return;
  for (let made = path; made.length >= first.length; made = dirname(made)) chmodSync(made, mode);
}
