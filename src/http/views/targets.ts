import type { FastifyRequest } from "fastify";
import type { TSchema } from "typebox";
import { OBJ_NAME_LEN } from "../../abi/bpf.ts";
import type { Errno } from "../../abi/errno.ts";
import { ID_MAX } from "../../abi/limits.ts";
import { InvalidInput } from "../../codec/invalid.ts";
import type { MapReference } from "../../engine/queries.ts";
import type { Target } from "../../syscall/command.ts";
import { BPFFS } from "../../syscall/pins.ts";
import { FdParams, MapParams } from "../schemas/fields.ts";
import type { CommandOrigin } from "../server/commands.ts";

/** One of the two places below which a map's elements hang. */
export interface View {
  readonly prefix: string;
  readonly params: { readonly properties: Record<string, TSchema> };
  /** What its operations' ids end in. */
  readonly suffix: string;
  readonly tag: string;
  readonly is: { readonly command: true; readonly session?: true };
  /** Errnos of finding the map. */
  readonly errnos: readonly Errno[];
  readonly origin: (request: FastifyRequest) => CommandOrigin;
}

/** A process's view: what the descriptor allows. */
const FD_VIEW: View = {
  prefix: "/sessions/:session/fds/:fd",
  params: FdParams,
  suffix: "",
  tag: "elements by descriptor",
  is: { command: true, session: true },
  errnos: ["EBADF", "EINVAL", "EPERM"],
  origin(request) {
    const { session, fd } = request.params as { session: number; fd: number };
    return { session, caller: request.caller, target: { by: "fd", fd } };
  },
};

/** An operator's view: any map, by what it is called. */
const MAP_VIEW: View = {
  prefix: "/maps/:map",
  params: MapParams,
  suffix: "OfMap",
  tag: "elements by map",
  is: { command: true },
  errnos: ["ENOENT", "EINVAL", "EPERM"],
  origin(request) {
    const { map } = request.params as { map: string };
    return { session: 0, caller: request.caller, target: readTarget(map, "map") };
  },
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
