/**
 * Large commands run in pieces, one a turn of the event loop, with commands of others between them: the kernel's
 * batches, and loads and stores through a mapping, are not one moment either. Each piece is a command with an event of
 * its own, whose `part` says which part of which command it is (`batch_pieces.ts`, `memory_pieces.ts`). A walk of ids
 * by globs is one command; before it runs, a piece of the maps is looked at in each turn.
 */

import { CMD } from "../abi/service.ts";
import { isRefusal } from "../maps/refusal.ts";
import type { NextIdCommand } from "../syscall/command.ts";
import { commandFacts } from "../syscall/command_facts.ts";
import { checkSession, openMap } from "../syscall/guards.ts";
import type { OpenMap } from "../syscall/open_map.ts";
import type { State } from "../syscall/state.ts";
import { EVICTING_ELEMENTS, readPieces, writePieces } from "./batch_pieces.ts";
import { memoryPieces } from "./memory_pieces.ts";
import {
  type BatchRequest,
  lengthOf,
  type MemoryRequest,
  PIECE_BYTES,
  type Pieces,
  WRITTEN_ELEMENTS,
} from "./piece.ts";
import type { Request } from "./request.ts";

/** Of a batch that reads, whose bytes only the map can tell: from here on it is looked at. */
const UNKNOWN_ELEMENTS = 16;

export type WalkRequest = Request & NextIdCommand & { readonly limits: number };
export type LargeRequest = BatchRequest | MemoryRequest | WalkRequest;

/** The engine as pieces see it. */
export interface LargeEngine {
  readonly state: State;
  readonly callerLimits: {
    /** Whether so few maps are to be looked at for a walk that it runs at once. */
    isNear(request: WalkRequest): boolean;
    /** Looks at some of them; answers whether that was enough. */
    walk(request: WalkRequest): boolean;
  };
}

/** Whether a command may need pieces, as far as can be told without its map: it then runs behind what came with it. */
export function mayBeLarge(request: Request): request is LargeRequest {
  switch (commandFacts(request.cmd)?.pieces ?? null) {
    case "elements read":
      return (request as BatchRequest).attr.count > UNKNOWN_ELEMENTS;
    case "elements written": {
      const { key, value, attr } = request as BatchRequest;
      return attr.count > EVICTING_ELEMENTS || lengthOf(key) + lengthOf(value) > PIECE_BYTES;
    }
    case "memory":
      return (request as MemoryRequest).attr.length > WRITTEN_ELEMENTS;
    case "maps":
      return request.limits !== undefined;
    case null:
      return false;
  }
}

/** Whether it does, or nobody can say yet: what came with it may make its map. */
export function isLarge(engine: LargeEngine, request: LargeRequest): boolean {
  if (isWalk(request)) return !engine.callerLimits.isNear(request);
  const { state } = engine;
  const map = mapOf(state, request);
  return map === null || piecesOn(state, request, map) !== null;
}

/** The pieces of a command, by what its map is when the first is asked for; a command that is refused is one. */
export function* piecesOf(engine: LargeEngine, request: LargeRequest): Pieces {
  if (isWalk(request)) {
    while (!engine.callerLimits.walk(request)) yield null;
    return yield request;
  }
  const { state } = engine;
  const map = mapOf(state, request);
  const pieces = map === null ? null : piecesOn(state, request, map);
  return pieces === null ? yield request : yield* pieces;
}

/** null: the command is refused. */
function mapOf(state: State, request: BatchRequest | MemoryRequest): OpenMap | null {
  const origin = { ...request, timeUs: 0 };
  if (checkSession(state, origin) !== null) return null;
  const map = openMap(state, origin, request.target);
  return isRefusal(map) ? null : map;
}

/** null: one is enough. */
function piecesOn(state: State, request: BatchRequest | MemoryRequest, map: OpenMap): Pieces | null {
  if (isMemory(request)) return memoryPieces(state, request, map);
  return commandFacts(request.cmd)?.pieces === "elements read"
    ? readPieces(state, request, map)
    : writePieces(state, request, map);
}

function isWalk(request: LargeRequest): request is WalkRequest {
  return request.cmd === CMD.BPF_MAP_GET_NEXT_ID;
}

function isMemory(request: BatchRequest | MemoryRequest): request is MemoryRequest {
  return commandFacts(request.cmd)?.pieces === "memory";
}
