/**
 * Work as root in a directory that belongs to another user, without making files there that the service could not open.
 */

import { chownSync, statSync } from "node:fs";

/** Who owns a directory. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

const ROOT = 0;

/** The owner of a directory if it is not root and this process is root; null otherwise: no change of user is needed. */
export function foreignOwner(directory: string): Owner | null {
  const found = statSync(directory, { throwIfNoEntry: false });
  if (found === undefined || process.geteuid?.() !== ROOT || found.uid === ROOT) return null;
  return { uid: found.uid, gid: found.gid };
}

/**
 * If this process is root, gives up its rights for good and continues as the directory's owner. So the service can open
 * the files that it makes there, and links that the owner may have put there lead to nothing that the owner could not
 * open.
 */
export function becomeOwner(directory: string): void {
  const owner = foreignOwner(directory);
  if (owner === null) return;
  process.setgroups?.([owner.gid]);
  process.setgid?.(owner.gid);
  process.setuid?.(owner.uid);
}

/** Runs `run` as the directory's owner, if this process is root, and then continues as root. */
export function asOwner<Answer>(directory: string, run: () => Answer): Answer {
  const owner = foreignOwner(directory);
  if (owner === null) return run();
  const group = process.getegid?.() ?? ROOT;
  process.setegid?.(owner.gid);
  process.seteuid?.(owner.uid);
  try {
    return run();
  } finally {
    process.seteuid?.(ROOT);
    process.setegid?.(group);
  }
}

/** Gives a file that root has made to the directory's owner; null: the owner made it. */
export function giveTo(owner: Owner | null, path: string): void {
  if (owner !== null) chownSync(path, owner.uid, owner.gid);
}
