/**
 * Large commands run in pieces, one in each turn of the event loop, with commands of others between two pieces
 * (`large_commands.ts`). That is correct, because the kernel's batches, and loads and stores through a mapping, are not
 * atomic either. Each piece is a command with an event of its own, whose `part` says which part of which command it is
 * (`batch_pieces.ts`, `memory_pieces.ts`). For example, a BPF_MAP_UPDATE_BATCH of 2,500 elements in a hash becomes
 * three, of 1,024, 1,024 and 452 elements.
 *
 * BPF_MAP_GET_NEXT_ID of a caller whose scopes have globs is one command. Before it runs, some of the maps are matched
 * in each turn.
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
import { divided } from "./octets.ts";
import {
  type BatchRequest,
  lengthOf,
  type MemoryRequest,
  PIECE_BYTES,
  type Pieces,
  WRITTEN_ELEMENTS,
} from "./piece.ts";
import type { Request } from "./request.ts";

/** A batch that reads more elements than this may be large: only its map tells how many bytes they have. */
const UNKNOWN_ELEMENTS = 16;

export type WalkRequest = Request & NextIdCommand & { readonly limits: number };
export type LargeRequest = BatchRequest | MemoryRequest | WalkRequest;

/** The parts of the engine that pieces read (`QuerySources.reads`). */
export interface PieceSources {
  readonly state: State;
  readonly limits: {
    /** Whether so few maps are left to match that the walk can run at once. */
    isNear(request: WalkRequest): boolean;
    /** Matches some maps. Returns whether the walk can run. */
    walk(request: WalkRequest): boolean;
  };
}

/**
 * Whether a command may need pieces, judged without its map. If so, later commands of its connection wait for it
 * (`client.ts`), and the engine asks isLarge().
 */
export function mayBeLarge(request: Request): request is LargeRequest {
  switch (commandFacts(request.cmd)?.pieces ?? null) {
    case "elements read":
      return (request as BatchRequest).attr.count > UNKNOWN_ELEMENTS;
    case "elements written": {
      const { key, value, attr, octets } = request as BatchRequest;
      // No element has fewer bytes than one.
      if (octets === true) return lengthOf(value) > EVICTING_ELEMENTS;
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

/**
 * Whether a command needs pieces. Also true if it would be refused at present, because an earlier command of its batch
 * may create its map.
 */
export function isLarge({ state, limits }: PieceSources, request: LargeRequest): boolean {
  if (isWalk(request)) return !limits.isNear(request);
  const map = mapOf(state, request);
  return map === null || piecesOn(state, request, map) !== null;
}

/**
 * The pieces of a command, by its map as it is when the first piece runs. A command that is refused is a single piece.
 */
export function* piecesOf({ state, limits }: PieceSources, request: LargeRequest): Pieces {
  if (isWalk(request)) {
    while (!limits.walk(request)) yield null;
    return yield request;
  }
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

/** null: one piece is enough. */
function piecesOn(state: State, request: BatchRequest | MemoryRequest, map: OpenMap): Pieces | null {
  if (isMemory(request)) return memoryPieces(state, request, map);
  if (request.octets === true) return octetPieces(state, request, map);
  return commandFacts(request.cmd)?.pieces === "elements read"
    ? readPieces(state, request, map)
    : writePieces(state, request, map);
}

/**
 * null: one piece is enough, or the body is wrong. A wrong body is refused when the command runs, after the check that
 * the caller may use the map.
 */
function octetPieces(state: State, request: BatchRequest, map: OpenMap): Pieces | null {
  const batch = divided(state, request, map);
  if ("failure" in batch) return null;
  const pieces = writePieces(state, batch, map);
  if (pieces === null) return null;
  return (function* (): Pieces {
    const reply = yield* pieces;
    return "seq" in reply ? { ...reply, given: batch.attr.count } : reply;
  })();
}

function isWalk(request: LargeRequest): request is WalkRequest {
  return request.cmd === CMD.BPF_MAP_GET_NEXT_ID;
}

function isMemory(request: BatchRequest | MemoryRequest): request is MemoryRequest {
  return commandFacts(request.cmd)?.pieces === "memory";
}
