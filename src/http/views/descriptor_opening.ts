/** Opening a descriptor: makes a command of the request's body, and has the machine open the object that it names. */

import type { FastifyReply } from "fastify";
import { BPF_F } from "../../abi/bpf.ts";
import { CMD } from "../../abi/service.ts";
import { readObject } from "../../codec/body.ts";
import { InvalidInput } from "../../codec/invalid.ts";
import type { Request } from "../../engine/request.ts";
import type { Action, OpenCommand, Origin } from "../../syscall/command.ts";
import type { OpenBody } from "../schemas/descriptor_opening.ts";
import { type CommandParts, must, type Ran } from "../server/commands.ts";
import type { EngineDoor, ObjectOpener } from "../server/ports.ts";
import { Problem } from "../server/problems.ts";
import type { Asked } from "./as_of.ts";
import { askMap } from "./lookups.ts";
import { readTarget } from "./targets.ts";

const ACCESS = { rw: 0, r: BPF_F.BPF_F_RDONLY, w: BPF_F.BPF_F_WRONLY } as const;

export interface OpeningParts extends CommandParts {
  readonly engine: Pick<EngineDoor, "query" | "run">;
  /** null: this service opens no real objects. */
  readonly objects: ObjectOpener | null;
}

/**
 * Runs a command of a route for descriptors. For OPEN, the machine opens the object first, but only if the session is
 * the caller's: without a session of its own a caller must not learn which paths exist.
 */
export async function open(parts: OpeningParts, reply: FastifyReply, request: Request): Promise<Ran> {
  const { engine, objects } = parts;
  if (!isOpen(request) || objects === null) return must(parts, reply, request);
  const { session, caller } = request;
  const opened = (await engine.query("opens", { session, caller })) ? await objects.open(request.attr) : null;
  if (opened === null) return must(parts, reply, request);
  if ("later" in opened) throw new Problem("unavailable", opened.later);
  try {
    return await must(parts, reply, { ...request, attr: { ...request.attr, ...opened } });
  } catch (error) {
    // After a Problem the engine has had the command, and the object is its own. After any other error nobody has it.
    if (!(error instanceof Problem)) objects.discard(opened);
    throw error;
  }
}

function isOpen(request: Request): request is OpenCommand & Omit<Origin, "timeUs"> {
  return request.cmd === CMD.OPEN;
}

export async function openAction(state: Asked, { kind, fd, map, access, ...object }: OpenBody): Promise<Action> {
  if (fd !== undefined && kind !== "dup") throw new InvalidInput("fd", `not allowed for kind ${kind}`);
  if (map !== undefined && kind !== "map") throw new InvalidInput("map", `not allowed for kind ${kind}`);
  switch (kind) {
    case "dup":
      if (access !== undefined) throw new InvalidInput("access", "not allowed for kind dup");
      if (fd === undefined) throw new InvalidInput("fd", "required");
      return { cmd: CMD.DUP, fd };
    case "map":
      if (map === undefined) throw new InvalidInput("map", "required");
      return openMapAction(state, String(map), ACCESS[access ?? "rw"]);
    default:
      if (access === "w") throw new InvalidInput("access", `r or rw required for kind ${kind}`);
      return {
        cmd: CMD.OPEN,
        attr: { ...readObject(kind, object), ...(access === "r" && { openFlags: BPF_F.BPF_F_RDONLY }) },
      };
  }
}

async function openMapAction(state: Asked, reference: string, flags: number): Promise<Action> {
  const target = readTarget(reference, "map");
  switch (target.by) {
    case "id":
      return { cmd: CMD.BPF_MAP_GET_FD_BY_ID, attr: { mapId: target.id, openFlags: flags } };
    case "name": {
      const { id } = await askMap(state, { name: target.name }, reference, ["read", "write"]);
      return { cmd: CMD.BPF_MAP_GET_FD_BY_ID, attr: { mapId: id, openFlags: flags } };
    }
    case "pinned":
      return { cmd: CMD.BPF_OBJ_GET, attr: { pathname: target.pathname, fileFlags: flags, pathFd: 0, bpfFd: 0 } };
  }
}
