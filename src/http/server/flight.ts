/**
 * The budget of bytes in flight. A body of more than 64 KiB is counted before it is read, an answer of more than 64 KiB
 * when its command has run; both count until the response is closed or its connection is. A read whose answer has no
 * room is refused. A command that deletes elements and answers their values is not refused: nobody could read the
 * values again.
 */

import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { ANONYMOUS, OWNER } from "../../access/caller.ts";
import type { Settings } from "../../config.ts";
import type { Request } from "../../engine/request.ts";
import { commandFacts } from "../../syscall/command_facts.ts";
import type { Outcome } from "../../syscall/outcome.ts";
import { Problem } from "./problems.ts";

/**
 * Bodies and answers of up to this size are not counted: a connection has few of them at a time (`net/pipelines.ts`),
 * and the number of connections is bounded.
 */
export const SMALL_BYTES = 64 * 1024;

const MS = 1000;

/** The bytes of a command's answer. */
export function outcomeBytes({ key, value }: Outcome): number {
  return (key?.length ?? 0) + (value?.length ?? 0);
}

/** The part of the budget that one caller may have. */
const SHARE = 1 / 2;
/** The caller of bytes that count against no share: answers of replays' targets, and those of WITHOUT_SHARE. */
const NOBODY = "";
/** Callers without a share: the owner, who can stop the service anyway, and `anonymous`, who may be several people. */
const WITHOUT_SHARE: ReadonlySet<string> = new Set([OWNER.name, ANONYMOUS.name]);

/** What other threads hold of the budget. */
export interface FlightElsewhere {
  readonly bytes: number;
  /** Tells the other threads what this one holds. */
  tell(bytes: number): void;
}

/** There is no other thread. */
const NOWHERE: FlightElsewhere = { bytes: 0, tell() {} };

/**
 * Counts the bytes of large bodies and answers that the service holds, over all its listeners. Every count ends when
 * its response or its connection is closed. The budget is for all threads; a caller's share of it is counted in each thread.
 */
export class Flight {
  readonly #elsewhere: FlightElsewhere;
  readonly #bytesMax: number;
  readonly #stallMs: number;
  readonly #shareMax: number;
  /** The callers of requests, as soon as they are known. Callers of WITHOUT_SHARE are left out. */
  readonly #callers = new WeakMap<IncomingMessage, string>();
  readonly #byCaller = new Map<string, number>();
  readonly #loads = new WeakMap<IncomingMessage, Load>();
  readonly #watched = new WeakSet<ServerResponse>();
  readonly #loadsOf = new WeakMap<Socket, Set<Load>>();
  #bytes = 0;

  constructor(
    { flightBytesMax, stallSeconds }: Pick<Settings, "flightBytesMax" | "stallSeconds">,
    elsewhere: FlightElsewhere = NOWHERE,
  ) {
    this.#elsewhere = elsewhere;
    this.#bytesMax = flightBytesMax;
    this.#shareMax = flightBytesMax * SHARE;
    this.#stallMs = stallSeconds * MS;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Counts bytes if they fit into the budget, and into the caller's share. If nothing but the request's own bytes
   * (`own`) is in flight, any size fits. Returns whether they were counted.
   */
  take(bytes: number, own = 0, caller = NOBODY): boolean {
    if (this.#tooMany(bytes, own, caller) !== null) return false;
    this.hold(bytes, caller);
    return true;
  }

  give(bytes: number, caller = NOBODY): void {
    this.hold(-bytes, caller);
  }

  /** Counts bytes that are in memory already, whether they fit or not. */
  hold(bytes: number, caller = NOBODY): void {
    this.#bytes += bytes;
    this.#elsewhere.tell(this.#bytes);
    const has = this.#of(caller) + bytes;
    if (has === 0) this.#byCaller.delete(caller);
    else this.#byCaller.set(caller, has);
  }

  /** Counts bytes as `take` does. Throws the problem if they do not fit. */
  mustTake(bytes: number, own: number, caller: string): void {
    const detail = this.#tooMany(bytes, own, caller);
    if (detail !== null) throw new Problem("too-many-bytes", detail);
    this.hold(bytes, caller);
  }

  #of(caller: string): number {
    return this.#byCaller.get(caller) ?? 0;
  }

  #tooMany(bytes: number, own: number, caller: string): string | null {
    const setting = `MAPLEDGER_FLIGHT_BYTES_MAX is ${this.#bytesMax}`;
    const all = this.#bytes + this.#elsewhere.bytes;
    if (all > own && all + bytes > this.#bytesMax)
      return `${all} bytes of bodies and answers are in flight (${setting})`;
    const has = this.#of(caller);
    if (caller !== NOBODY && has > own && has + bytes > this.#shareMax)
      return `${has} bytes of ${caller}'s bodies and answers are in flight, and one caller may have half of all (${setting})`;
    return null;
  }

  /** Must be called as soon as a request's caller is known. */
  isOf(request: IncomingMessage, caller: string): void {
    if (!WITHOUT_SHARE.has(caller)) this.#callers.set(request, caller);
  }

  /** The bytes that a response's request holds. The count ends when the response or its connection is closed. */
  loadOf(response: ServerResponse): Load {
    const { req } = response;
    const known = this.#loads.get(req);
    if (known !== undefined) return known;
    const load = new Load(this, this.#callers.get(req) ?? NOBODY);
    this.#loads.set(req, load);
    const { socket } = req;
    const ofSocket = this.#ofSocket(socket);
    ofSocket.add(load);
    const end = (): void => {
      load.end();
      ofSocket.delete(load);
    };
    if (response.destroyed || socket.destroyed) end();
    else response.once("close", end);
    return load;
  }

  /** The same by the request; `loadOf` must have been called for its response. */
  loadOfRequest(request: IncomingMessage): Load {
    return this.#loads.get(request) as Load;
  }

  /** Counts a command's answer if it is large. The answer of a command that deleted its elements is never refused. */
  answered(response: ServerResponse, { cmd, caller }: Pick<Request, "cmd" | "caller">, outcome: Outcome): void {
    const bytes = outcomeBytes(outcome);
    if (bytes <= SMALL_BYTES) return;
    this.isOf(response.req, caller);
    if (commandFacts(cmd)?.takes === true) this.loadOf(response).hold(bytes);
    else this.loadOf(response).take(bytes);
  }

  /**
   * Closes the connection if its client reads nothing of the answer for `stallSeconds`, while there is something to
   * read.
   */
  watchReader(response: ServerResponse): void {
    if (this.#watched.has(response)) return;
    this.#watched.add(response);
    const { socket } = response.req;
    socket.setTimeout?.(this.#stallMs);
    response.on("timeout", () => {
      if (response.writableLength > 0 || response.writableNeedDrain) socket.destroy();
    });
  }

  /**
   * Closes the connection if its client sends nothing for `stallSeconds`. Nothing here listens to the timeout, so
   * node:http closes the connection.
   */
  watchSender({ socket }: IncomingMessage): void {
    socket.setTimeout?.(this.#stallMs);
  }

  unwatchSender({ socket }: IncomingMessage): void {
    socket.setTimeout?.(0);
  }

  /**
   * Responses that wait behind others on a connection get no event when it is closed, so the connection ends their
   * counts.
   */
  #ofSocket(socket: Socket): Set<Load> {
    const known = this.#loadsOf.get(socket);
    if (known !== undefined) return known;
    const loads = new Set<Load>();
    this.#loadsOf.set(socket, loads);
    socket.once("close", () => {
      for (const load of loads) load.end();
      loads.clear();
    });
    return loads;
  }
}

/** The bytes that one request holds. */
export class Load {
  readonly #flight: Flight;
  readonly #caller: string;
  #bytes = 0;
  #ended = false;

  constructor(flight: Flight, caller: string) {
    this.#flight = flight;
    this.#caller = caller;
  }

  /** Counts more bytes. Throws the problem if they do not fit. */
  take(bytes: number): void {
    if (this.#ended) return;
    this.#flight.mustTake(bytes, this.#bytes, this.#caller);
    this.#bytes += bytes;
  }

  /** Counts bytes that are in memory already. */
  hold(bytes: number): void {
    if (this.#ended) return;
    this.#flight.hold(bytes, this.#caller);
    this.#bytes += bytes;
  }

  /** Ends the count of some bytes. */
  give(bytes: number): void {
    if (this.#ended) return;
    this.#flight.give(bytes, this.#caller);
    this.#bytes -= bytes;
  }

  /** Ends the count of all bytes; more may be counted later. */
  giveAll(): void {
    this.give(this.#bytes);
  }

  /** Ends the count for good. */
  end(): void {
    this.giveAll();
    this.#ended = true;
  }
}
