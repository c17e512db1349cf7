import { type Static, type TUnsafe, Type } from "typebox";
import { OBJ_NAME_LEN } from "../../abi/bpf.ts";
import type { Errno } from "../../abi/errno.ts";
import { ID_MAX } from "../../abi/limits.ts";
import { InvalidInput } from "../../codec/invalid.ts";
import type { MapReference } from "../../engine/map_reference.ts";
import type { Target } from "../../syscall/command.ts";
import { BPFFS } from "../../syscall/pins.ts";
import { FdParams, Key, MapParams } from "../schemas/fields.ts";
import type { CommandOrigin } from "../server/commands.ts";

/** The parameters of a path that name the map: a session's descriptor, or any map by what it is called. */
type ViewParams = Static<typeof FdParams> | Static<typeof MapParams>;

/** One of the two places below which a map's elements hang. */
export interface View {
  readonly prefix: string;
  readonly params: TUnsafe<ViewParams>;
  /** The same with an element's key. */
  readonly keyParams: TUnsafe<ViewParams & { readonly key: string }>;
  /** What its operations' ids end in. */
  readonly suffix: string;
  readonly tag: string;
  readonly is: { readonly command: true; readonly session?: true };
  /** Errnos of finding the map. */
  readonly errnos: readonly Errno[];
}

/** Who sends a command, and the map that the path names. */
export function originOf({ params, caller }: { readonly params: ViewParams; readonly caller: string }): CommandOrigin {
  if ("map" in params) return { session: 0, caller, target: readTarget(params.map, "map") };
  const { session, fd } = params;
  return { session, caller, target: { by: "fd", fd } };
}

/** A process's view: what the descriptor allows. */
const FD_VIEW: View = {
  prefix: "/sessions/:session/fds/:fd",
  params: Type.Unsafe(FdParams),
  keyParams: Type.Unsafe(Type.Object({ ...FdParams.properties, key: Key })),
  suffix: "",
  tag: "elements by descriptor",
  is: { command: true, session: true },
  errnos: ["EBADF", "EINVAL", "EPERM"],
};

/** An operator's view: any map, by what it is called. */
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

/** A map's id, name:NAME or pinned:PATH, as bpftool writes it. */
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

/** The same path from the root on, as pins are kept: relative ones begin at bpffs. */
function fromRoot(pathname: string): string {
  const absolute = pathname === "" || pathname.startsWith("/") ? pathname : `${BPFFS}/${pathname}`;
  return absolute.replace(/\/(?:\.?\/)+/g, "/");
}

/** The same, as a query asks for it. */
export function readReference(reference: string, where: string): MapReference {
  return referenceOf(readTarget(reference, where));
}

export function referenceOf(target: Exclude<Target, { by: "fd" }>): MapReference {
  if (target.by === "id") return { id: target.id };
  return target.by === "name" ? { name: target.name } : { pinned: target.pathname };
}

/** A map's name is one character a byte; the unnamed have none to be found by. */
function readName(name: string, where: string): string {
  if (name !== "" && name.length < OBJ_NAME_LEN && NAME_CHARACTERS.test(name)) return name;
  throw new InvalidInput(where, `a name has 1 to ${OBJ_NAME_LEN - 1} characters up to U+00FF`);
}

export function readPathname(pathname: string, where: string): string {
  if (!pathname.includes("\0") && pathname.isWellFormed()) return pathname;
  throw new InvalidInput(where, "a pathname has no NUL and no half of a character");
}
