import type { Errno } from "../abi/errno.ts";
import type { Creator } from "./map.ts";
import type { ObjectKind, ObjectRecord } from "./object.ts";
import { type Refusal, refuse } from "./refusal.ts";

/** The object behind a descriptor, of a kind: EBADF where it is not open, `wrongKind` where it is of another. */
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
  return refuse(wrongKind, `fd ${fd} is a ${object?.kind ?? "map"}: a ${kind} is needed`);
}

/** cgroup_get_from_fd(): EBADF, and ENOENT for a cgroup that was removed. */
export function cgroupAt(creator: Creator, fd: number): Extract<ObjectRecord, { kind: "cgroup" }> | Refusal {
  const cgroup = objectAt(creator, fd, "cgroup", "EBADF");
  if (!("id" in cgroup) || !cgroup.removed) return cgroup;
  return refuse("ENOENT", `cgroup ${cgroup.cgroupId} was removed`);
}
