import { chownSync, statSync } from "node:fs";

/** Who owns a directory. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

const ROOT = 0;

/** Whose a directory is, if it is another's and this process is root, who may write to it all the same; null otherwise. */
export function foreignOwner(directory: string): Owner | null {
  const found = statSync(directory, { throwIfNoEntry: false });
  if (found === undefined || process.geteuid?.() !== ROOT || found.uid === ROOT) return null;
  return { uid: found.uid, gid: found.gid };
}

/**
 * From here on this process, if it is root's, is the directory's owner, with no other right: what it makes there the service can open,
 * and nothing that the owner may have put there leads it elsewhere.
 */
export function becomeOwner(directory: string): void {
  const owner = foreignOwner(directory);
  if (owner === null) return;
  process.setgroups?.([owner.gid]);
  process.setgid?.(owner.gid);
  process.setuid?.(owner.uid);
}

/** The same for as long as `run` takes: of who needs root's rights for something else besides. */
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

/** Gives something that root has made to a directory's owner; null: it is who made it. */
export function giveTo(owner: Owner | null, path: string): void {
  if (owner !== null) chownSync(path, owner.uid, owner.gid);
}
