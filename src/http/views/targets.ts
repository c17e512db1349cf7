/** The two ways to address a map in a path, by descriptor and by reference, and how references are read. */

import type { Static, TUnsafe } from "typebox";
import { OBJ_NAME_LEN } from "../../abi/bpf.ts";
import type { Errno } from "../../abi/errno.ts";
import { ID_MAX } from "../../abi/limits.ts";
import { InvalidInput } from "../../codec/invalid.ts";
import type { MapReference } from "../../engine/map_reference.ts";
import type { Target } from "../../syscall/command.ts";
import { BPFFS } from "../../syscall/pins.ts";
import { FdParams, Key, MapParams } from "../schemas/fields.ts";
import { Type } from "../schemas/type.ts";
import type { CommandOrigin } from "../server/commands.ts";

/** A path's parameters for a map: a session's descriptor, or a reference to any map. */
type ViewParams = Static<typeof FdParams> | Static<typeof MapParams>;

/** One of the two prefixes of all routes for a map's elements. */
export interface View {
  readonly prefix: string;
  readonly params: TUnsafe<ViewParams>;
  /** The parameters with an element's key. */
  readonly keyParams: TUnsafe<ViewParams & { readonly key: string }>;
  /** The end of its operations' ids. */
  readonly suffix: string;
  readonly tag: string;
  readonly is: { readonly command: true; readonly session?: true };
  /** The errnos that finding the map can have. */
  readonly errnos: readonly Errno[];
}

/** The session and the caller of a command, and the map that the path names. */
export function originOf({ params, caller }: { readonly params: ViewParams; readonly caller: string }): CommandOrigin {
  if ("map" in params) return { session: 0, caller, target: readTarget(params.map, "map") };
  const { session, fd } = params;
  return { session, caller, target: { by: "fd", fd } };
}

/** A map as a process has it, limited by the descriptor's mode. */
const FD_VIEW: View = {
  prefix: "/sessions/:session/fds/:fd",
  params: Type.Unsafe(FdParams),
  keyParams: Type.Unsafe(Type.Object({ ...FdParams.properties, key: Key })),
  suffix: "",
  tag: "elements by descriptor",
  is: { command: true, session: true },
  errnos: ["EBADF", "EINVAL", "EPERM"],
};

/** Any map, as an operator has it. */
const MAP_VIEW: View = {
  prefix: "/maps/:map",
  params: Type.Unsafe(MapParams),
  keyParams: Type.Unsafe(Type.Object({ ...MapParams.properties, key: Key })),
  suffix: "OfMap",
  tag: "elements by map",
  is: { command: true },
  errnos: ["ENOENT", "EINVAL", "EPERM"],
};

export const VIEWS: readonly View[] = [FD_VIEW, MAP_VIEW];

const PINNED = "pinned:";
const NAME = "name:";
const NAME_CHARACTERS = /^[^\0\u0100-\uffff]+$/;

/** Reads a map's id, name:NAME or pinned:PATH. */
export function readTarget(reference: string, where: string): Exclude<Target, { by: "fd" }> {
  if (reference.startsWith(PINNED))
    return { by: "pinned", pathname: fromRoot(readPathname(reference.slice(PINNED.length), where)) };
  if (reference.startsWith(NAME)) return { by: "name", name: readName(reference.slice(NAME.length), where) };
  const id = /^\d{1,10}$/.test(reference) ? Number(reference) : Number.NaN;
  if (id >= 0 && id <= ID_MAX) return { by: "id", id };
  throw new InvalidInput(
    where,
    `a map's id, name:NAME or pinned:PATH required, found ${JSON.stringify(reference.slice(0, 40))}`,
  );
}

/** A pin's path as the ledger has it: absolute (relative paths begin at bpffs), without double slashes and ".". */
function fromRoot(pathname: string): string {
  const absolute = pathname === "" || pathname.startsWith("/") ? pathname : `${BPFFS}/${pathname}`;
  return absolute.replace(/\/(?:\.?\/)+/g, "/");
}

/** As readTarget, but as a reference for queries. */
export function readReference(reference: string, where: string): MapReference {
  return referenceOf(readTarget(reference, where));
}

export function referenceOf(target: Exclude<Target, { by: "fd" }>): MapReference {
  if (target.by === "id") return { id: target.id };
  return target.by === "name" ? { name: target.name } : { pinned: target.pathname };
}

/** A name has one character per byte. A map without a name cannot be found by name. */
function readName(name: string, where: string): string {
  if (name !== "" && name.length < OBJ_NAME_LEN && NAME_CHARACTERS.test(name)) return name;
  throw new InvalidInput(where, `1 to ${OBJ_NAME_LEN - 1} characters up to U+00FF required after name:`);
}

export function readPathname(pathname: string, where: string): string {
  if (!pathname.includes("\0") && pathname.isWellFormed()) return pathname;
  throw new InvalidInput(where, "a pathname without NUL and unpaired surrogates required");
}
