import { existsSync, mkdirSync, readdirSync, readlinkSync, statfsSync, statSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { errnoName } from "../abi/errno.ts";
import { errnoOf } from "./refusal.ts";

/** BPF_FS_MAGIC, include/uapi/linux/magic.h. */
const BPF_FS_MAGIC = 0xcafe4a11;
/** The inode of a bpffs' own root: simple_fill_super(), fs/libfs.c. */
const ROOT_INO = 1;

/** What the mirror keeps for itself in its directory: whose it is, a pin of every map by its id, and how far they have come. */
export const OWNER = "owner";
export const BY_ID = "by_id";
export const CARRIED = "carried";

/**
 * Takes a directory of bpffs for this instance: makes it, or finds it as an earlier start has left it. Null, or why it
 * cannot be had. Whatever the state does not have is removed from that directory later on, so that nobody else's pins
 * may be in it: it is the instance's own from when it is empty.
 */
export function claim(root: string, instance: string): string | null {
  const standing = nearest(root);
  if (statfsSync(standing).type !== BPF_FS_MAGIC) return `no bpffs is mounted at ${root}: mount -t bpf bpf /sys/fs/bpf`;
  if (standing === root && statSync(root).ino === ROOT_INO)
    return `${root} is a bpffs' own root, which others use, too: choose a directory below it`;
  const unmade = errnoOf(() => mkdirSync(root, { recursive: true }));
  if (unmade !== 0) return `making ${root}: ${errnoName(-unmade)}`;
  const owner = join(root, OWNER);
  let found = ownerOf(owner);
  if (found === null) {
    if (readdirSync(root).length > 0)
      return `${root} holds pins that are not mapledger's: choose another MAPLEDGER_BPFFS`;
    const unclaimed = errnoOf(() => symlinkSync(instance, owner));
    if (unclaimed !== 0) return `making ${owner}: ${errnoName(-unclaimed)}`;
    found = instance;
  }
  if (found !== instance)
    return (
      `${root} belongs to the instance ${found}, and this is ${instance}: ` +
      "choose another MAPLEDGER_BPFFS, or remove the directory if that instance is gone"
    );
  const unmadeById = errnoOf(() => mkdirSync(join(root, BY_ID), { recursive: true }));
  return unmadeById === 0 ? null : `making ${join(root, BY_ID)}: ${errnoName(-unmadeById)}`;
}

function nearest(path: string): string {
  let at = path;
  while (!existsSync(at)) at = dirname(at);
  return at;
}

/** The symbolic link's target is the instance's id: bpffs has no files that could hold it. */
function ownerOf(link: string): string | null {
  let target: string | null = null;
  const errno = errnoOf(() => {
    target = readlinkSync(link);
  });
  return errno === 0 ? target : null;
}
