import { readFileSync, readlinkSync } from "node:fs";

/**
 * Whether a descriptor is a map's. BPF_OBJ_GET_INFO_BY_FD would interpret another object's info as a map's, so the link
 * in /proc is read, which needs no further descriptor.
 */
export function isMapFd(fd: number): boolean {
  return readlinkSync(`/proc/self/fd/${fd}`) === "anon_inode:bpf-map";
}

/**
 * Whether a map is frozen; only procfs shows that. Throws if it cannot be read, for example because no descriptors are
 * left.
 */
export function isFrozenFd(fd: number): boolean {
  return /^frozen:\t1$/m.test(readFileSync(`/proc/self/fdinfo/${fd}`, "latin1"));
}
