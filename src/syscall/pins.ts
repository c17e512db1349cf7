/**
 * bpffs as sessions see it: mounted at /sys/fs/bpf, which is also their working directory. "." and ".." in a path are
 * resolved. mapledger knows no other file system: pins can be neither made nor found elsewhere.
 */

import { BPF_F } from "../abi/bpf.ts";
import { NAME_BYTES_MAX, PATH_BYTES_MAX } from "../abi/limits.ts";
import { CMD } from "../abi/service.ts";
import type { MapRecord } from "../maps/map.ts";
import { isRefusal, type Refusal, refuse } from "../maps/refusal.ts";
import type { Command, GetPinCommand, Occupied, Origin, PathCommand, PinCommand } from "./command.ts";
import { mapFile } from "./create.ts";
import { openAt } from "./descriptors.ts";
import { checkSession, openFile, openMap } from "./guards.ts";
import { done, failed, type Outcome } from "./outcome.ts";
import { checkQuota } from "./quota.ts";
import type { State } from "./state.ts";

export const BPFFS = "/sys/fs/bpf";

const ANCESTORS = new Set(["", "/sys", "/sys/fs"]);
const ACCESS = BPF_F.BPF_F_RDONLY | BPF_F.BPF_F_WRONLY;

/** A pin or directory that a command is about to make. */
export interface NewEntry {
  /** Absolute, below BPFFS, without ".", ".." and double slashes. */
  readonly pathname: string;
  /** The map to pin; null: the command makes a directory. */
  readonly map: MapRecord | null;
}

/**
 * The entry that a command is about to make. The machine is then asked whether the path is free (`engine/occupied.ts`),
 * and its refusal becomes `attr.found`. null: the machine is not asked, because the command makes no entry, an earlier
 * check refuses it, the ledger has an entry at the path, or the path is outside bpffs.
 */
export function newEntry(state: State, command: Command): NewEntry | null {
  if (command.cmd === CMD.MKDIR) {
    if (checkSession(state, command) !== null) return null;
    return newEntryAt(state, resolve(state, command.session, command.attr.pathname, 0, 0), null);
  }
  if (command.cmd !== CMD.BPF_OBJ_PIN || checkSession(state, command) !== null) return null;
  const pin = lookUpPin(state, command);
  return "errno" in pin ? null : newEntryAt(state, pin.path, pin.map);
}

function newEntryAt(state: State, path: Path | Refusal, map: MapRecord | null): NewEntry | null {
  if (isRefusal(path) || exists(state, path) || !isBelow(path.pathname)) return null;
  return { pathname: path.pathname, map };
}

/** bpf_obj_pin(), kernel/bpf/syscall.c and inode.c. */
export function objPin(state: State, command: Origin & PinCommand): Outcome {
  const pin = lookUpPin(state, command);
  if ("errno" in pin) return pin;
  const { path, map } = pin;
  const refusal = checkNew(state, path, command);
  if (refusal !== null) return failed(refusal, map.id);
  state.bpffs.pin(map, path.pathname, command.caller);
  return done(map.id, null, { pathname: path.pathname });
}

/** The map and the path of a pin, after all checks that do not depend on the entries at the path. */
function lookUpPin(state: State, command: Origin & PinCommand): { path: Path; map: MapRecord } | Outcome {
  const { pathname, fileFlags, pathFd } = command.attr;
  if ((fileFlags & ~BPF_F.BPF_F_PATH_FD) !== 0)
    return failed(refuse("EINVAL", `file_flags ${fileFlags}: only BPF_F_PATH_FD is allowed for pinning`));
  const unused = checkPathFd(fileFlags, pathFd);
  if (unused !== null) return failed(unused);
  const map = openMap(state, command, command.target);
  // The kernel looks bpf_fd up as a map, a program and a link; anything else is EINVAL, even a descriptor that is not
  // open.
  if (isRefusal(map)) return failed(command.target.by === "fd" ? refuse("EINVAL", map.detail) : map);
  const path = resolve(state, command.session, pathname, fileFlags, pathFd);
  return isRefusal(path) ? failed(path, map.map.id) : { path, map: map.map };
}

export function redoObjPin(state: State, { caller }: Origin & PinCommand, outcome: Outcome): void {
  if (outcome.errno === 0)
    state.bpffs.pin(state.map(outcome.map) as MapRecord, outcome.out?.pathname as string, caller);
}

/** bpf_obj_get(), kernel/bpf/syscall.c and inode.c. */
export function objGet(state: State, command: Origin & GetPinCommand): Outcome {
  const { pathname, fileFlags, pathFd, bpfFd } = command.attr;
  if (bpfFd !== 0) return failed(refuse("EINVAL", `bpf_fd is ${bpfFd}: 0 required`));
  if ((fileFlags & ~(ACCESS | BPF_F.BPF_F_PATH_FD)) !== 0)
    return failed(
      refuse("EINVAL", `file_flags ${fileFlags}: only BPF_F_RDONLY, BPF_F_WRONLY and BPF_F_PATH_FD are allowed`),
    );
  const unused = checkPathFd(fileFlags, pathFd);
  if (unused !== null) return failed(unused);
  if ((fileFlags & ACCESS) === ACCESS) return failed(refuse("EINVAL", "BPF_F_RDONLY excludes BPF_F_WRONLY"));
  const path = resolve(state, command.session, pathname, fileFlags, pathFd);
  if (isRefusal(path)) return failed(path);
  if (isDirectory(state, path.pathname)) return failed(refuse("EACCES", `${shown(path)} is a directory`));
  const id = state.bpffs.pinAt(path.pathname);
  if (id === undefined) return failed(refuse("ENOENT", `nothing is pinned at ${shown(path)}`));
  if (path.slash) return failed(refuse("ENOTDIR", `${shown(path)} is a pin, not a directory`));
  return openAt(state, command.session, mapFile(state, id, fileFlags));
}

export function redoObjGet(state: State, command: Origin & GetPinCommand, outcome: Outcome): void {
  if (outcome.errno === 0)
    state.openFd(command.session, outcome.ret, mapFile(state, outcome.map, command.attr.fileFlags));
}

/** unlink(2), mkdir(2) and rmdir(2) on bpffs. */
export function changePath(state: State, command: Origin & PathCommand): Outcome {
  const path = resolve(state, command.session, command.attr.pathname, 0, 0);
  if (isRefusal(path)) return failed(path);
  const refusal = checkChange(state, command, path);
  if (refusal !== null) return failed(refusal);
  const map = state.bpffs.pinAt(path.pathname) ?? 0;
  change(state, command, path.pathname);
  return done(map, null, { pathname: path.pathname });
}

export function redoChangePath(state: State, command: Origin & PathCommand, outcome: Outcome): void {
  if (outcome.errno === 0) change(state, command, outcome.out?.pathname as string);
}

function change(state: State, command: Origin & PathCommand, pathname: string): void {
  switch (command.cmd) {
    case CMD.UNLINK:
      state.bpffs.unpin(pathname);
      break;
    case CMD.MKDIR:
      state.bpffs.makeDirectory(pathname, command.caller);
      break;
    case CMD.RMDIR:
      state.bpffs.removeDirectory(pathname);
      break;
  }
}

function checkChange(state: State, command: Origin & PathCommand, path: Path): Refusal | null {
  if (command.cmd === CMD.MKDIR) return checkNew(state, { ...path, slash: false }, command);
  const directory = isDirectory(state, path.pathname);
  const pin = state.bpffs.pinAt(path.pathname) !== undefined;
  if (!directory && !pin) return refuse("ENOENT", `nothing is at ${shown(path)}`);
  if (command.cmd === CMD.UNLINK) {
    if (directory) return refuse("EISDIR", `${shown(path)} is a directory`);
    return path.slash ? refuse("ENOTDIR", `${shown(path)} is a pin, not a directory`) : null;
  }
  if (pin) return refuse("ENOTDIR", `${shown(path)} is a pin, not a directory`);
  if (!state.bpffs.isDirectory(path.pathname))
    return refuse("EBUSY", `${shown(path)} is bpffs itself or a directory above it`);
  return state.bpffs.hasEntries(path.pathname) ? refuse("ENOTEMPTY", `${shown(path)} is not empty`) : null;
}

/** A path whose parent directories exist; the entry itself may not. */
interface Path {
  /** Absolute, without ".", ".." and double slashes; "": the root. */
  readonly pathname: string;
  /** It ends in a slash, so it must be a directory. */
  readonly slash: boolean;
}

function shown(path: Path): string {
  return path.pathname === "" ? "/" : path.pathname;
}

function checkPathFd(fileFlags: number, pathFd: number): Refusal | null {
  if ((fileFlags & BPF_F.BPF_F_PATH_FD) !== 0 || pathFd === 0) return null;
  return refuse("EINVAL", `path_fd is ${pathFd}, but file_flags do not have BPF_F_PATH_FD`);
}

/** path_lookupat(), fs/namei.c: every component but the last must be a directory. */
function resolve(
  state: State,
  session: number,
  pathname: string | null,
  fileFlags: number,
  pathFd: number,
): Path | Refusal {
  if (pathname === null) return refuse("EFAULT", "pathname is the null pointer");
  if (pathname === "") return refuse("ENOENT", "pathname is empty");
  if (Buffer.byteLength(pathname) >= PATH_BYTES_MAX)
    return refuse("ENAMETOOLONG", `pathname is longer than ${PATH_BYTES_MAX - 1} bytes`);
  let at = pathname.startsWith("/") ? "" : BPFFS;
  if (!pathname.startsWith("/") && (fileFlags & BPF_F.BPF_F_PATH_FD) !== 0) {
    const directory = openFile(state, session, pathFd);
    if (isRefusal(directory)) return directory;
    const object = state.object(directory.object);
    if (object?.kind !== "dir" || object.path === null)
      return refuse("ENOTDIR", `path_fd ${pathFd} is not a directory`);
    at = object.path;
  }
  for (const name of pathname.split("/")) {
    if (name === "" || name === ".") continue;
    if (!isDirectory(state, at)) {
      if (state.bpffs.pinAt(at) !== undefined) return refuse("ENOTDIR", `${at} is a pin, not a directory`);
      return refuse("ENOENT", `there is no directory ${at}`);
    }
    if (name === "..") {
      at = at.slice(0, Math.max(at.lastIndexOf("/"), 0));
      continue;
    }
    if (Buffer.byteLength(name) > NAME_BYTES_MAX)
      return refuse("ENAMETOOLONG", `a name in pathname is longer than ${NAME_BYTES_MAX} bytes`);
    if (isBelow(at) && name.includes(".")) return refuse("EPERM", `${name}: dots are not allowed in names on bpffs`);
    at = `${at}/${name}`;
  }
  return { pathname: at, slash: pathname.endsWith("/") };
}

/**
 * The place on bpffs that a command's path names. null: the command fails before it looks there. "nowhere": the path
 * leads through something that is not a directory, or starts at a descriptor that is none.
 */
export function placeOf(
  state: State,
  session: number,
  { pathname, fileFlags, pathFd }: PathAttr,
): string | null | "nowhere" {
  const path = resolve(state, session, pathname, fileFlags, pathFd);
  if (!isRefusal(path)) return path.pathname;
  if (pathname === null || pathname === "" || Buffer.byteLength(pathname) >= PATH_BYTES_MAX) return null;
  const names = pathname.split("/").filter((name) => name !== "" && name !== ".");
  const isRelative = !pathname.startsWith("/");
  if (names.includes("..") || (isRelative && (fileFlags & BPF_F.BPF_F_PATH_FD) !== 0)) return "nowhere";
  return [isRelative ? BPFFS : "", ...names].join("/");
}

interface PathAttr {
  readonly pathname: string | null;
  readonly fileFlags: number;
  readonly pathFd: number;
}

/** Whether a path is bpffs or below it. */
function isBelow(pathname: string): boolean {
  return pathname === BPFFS || pathname.startsWith(`${BPFFS}/`);
}

function isDirectory(state: State, pathname: string): boolean {
  return pathname === BPFFS || ANCESTORS.has(pathname) || state.bpffs.isDirectory(pathname);
}

function exists(state: State, { pathname }: Path): boolean {
  return isDirectory(state, pathname) || state.bpffs.pinAt(pathname) !== undefined;
}

type NewCommand = Pick<Origin, "caller"> & { readonly attr: { readonly found?: Occupied } };

/** filename_create(), fs/namei.c, then bpf_get_inode(). An entry of the machine counts like one of the ledger. */
function checkNew(state: State, path: Path, { caller, attr: { found } }: NewCommand): Refusal | null {
  if (exists(state, path)) return refuse("EEXIST", `${shown(path)} exists`);
  if (found !== undefined) return refuse(found.errno, found.detail);
  if (!isBelow(path.pathname)) return refuse("EPERM", `${path.pathname} is not on bpffs, which is ${BPFFS}`);
  if (path.slash) return refuse("ENOENT", `${path.pathname}/ is not a directory`);
  return checkQuota(state.charges, caller, "pins", 1);
}
