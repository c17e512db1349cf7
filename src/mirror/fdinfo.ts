import { readFileSync, readlinkSync } from "node:fs";

/** Whether an fd is a map's: no other command tells that without taking it for one. It takes no descriptor to ask. */
export function isMapFd(fd: number): boolean {
  return readlinkSync(`/proc/self/fd/${fd}`) === "anon_inode:bpf-map";
}

/** Whether a map is frozen, which only procfs tells. Throws where it cannot be read, for want of descriptors, say. */
export function isFrozenFd(fd: number): boolean {
  return /^frozen:\t1$/m.test(readFileSync(`/proc/self/fdinfo/${fd}`, "latin1"));
}
