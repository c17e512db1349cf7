import type { Errno } from "../abi/errno.ts";
import type { Creator } from "./map.ts";
import type { ObjectKind, ObjectRecord } from "./object.ts";
import { type Refusal, refuse } from "./refusal.ts";

/**
 * The object that a descriptor refers to. EBADF if the descriptor is not open, `wrongKind` if it refers to another
 * kind.
 */
export function objectAt<Kind extends ObjectKind>(
  { world, session }: Creator,
  fd: number,
  kind: Kind,
  wrongKind: Errno,
): Extract<ObjectRecord, { kind: Kind }> | Refusal {
  const file = world.fd(session, fd);
  if (file === undefined) return refuse("EBADF", `fd ${fd} is not open`);
  const object = world.object(file.object);
  if (object?.kind === kind) return object as Extract<ObjectRecord, { kind: Kind }>;
  return refuse(wrongKind, `fd ${fd} is a ${object?.kind ?? "map"}: a ${kind} required`);
}

/** cgroup_get_from_fd(): EBADF; ENOENT if the cgroup was removed. */
export function cgroupAt(creator: Creator, fd: number): Extract<ObjectRecord, { kind: "cgroup" }> | Refusal {
  const cgroup = objectAt(creator, fd, "cgroup", "EBADF");
  if (!("id" in cgroup) || !cgroup.removed) return cgroup;
  return refuse("ENOENT", `cgroup ${cgroup.cgroupId} was removed`);
}
