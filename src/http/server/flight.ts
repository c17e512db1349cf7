/**
 * The budget of bytes in flight. A body of more than 64 KiB is counted before it is read, an answer of more than that
 * once its command has run; both count until the response has been sent or its connection is closed. A read whose
 * answer has no room is refused. A command that deletes elements as it answers them is not, since the answer is all
 * that is left of them. Smaller bodies and answers are bounded by the number of connections.
 */

import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { ANONYMOUS, OWNER } from "../../access/caller.ts";
import type { Settings } from "../../config.ts";
import type { Request } from "../../engine/request.ts";
import { commandFacts } from "../../syscall/command_facts.ts";
import type { Outcome } from "../../syscall/outcome.ts";
import { Problem } from "./problems.ts";

/** Bodies and answers up to here are not counted: a connection has few of them at a time (../pipelines.ts), and connections are bounded. */
export const SMALL_BYTES = 64 * 1024;

const MS = 1000;

/** Of a command's answer. */
export function outcomeBytes({ key, value }: Outcome): number {
  return (key?.length ?? 0) + (value?.length ?? 0);
}

/** Of the budget, what one caller may have: the rest is for the others. */
const SHARE = 1 / 2;
/** Whose bytes have no share: answers that replays' targets give, and those of who may stop the service, or is everybody. */
const NOBODY = "";
const WITHOUT_SHARE: ReadonlySet<string> = new Set([OWNER.name, ANONYMOUS.name]);

/**
 * The bytes of large bodies and answers that the service holds, over all its listeners. A body is counted from before its first
 * byte is read until its request has been answered or given up, whatever is made of it meanwhile; an answer until its reader has
 * taken it or is gone. What is counted goes back in every case: it hangs on the response and on its connection.
 */
export class Flight {
  readonly #bytesMax: number;
  readonly #stallMs: number;
  readonly #shareMax: number;
  /** Who sends a request, from when he is known. */
  readonly #callers = new WeakMap<IncomingMessage, string>();
  readonly #byCaller = new Map<string, number>();
  readonly #loads = new WeakMap<IncomingMessage, Load>();
  readonly #watched = new WeakSet<ServerResponse>();
  readonly #loadsOf = new WeakMap<Socket, Set<Load>>();
  #bytes = 0;

  constructor({ flightBytesMax, stallSeconds }: Pick<Settings, "flightBytesMax" | "stallSeconds">) {
    this.#bytesMax = flightBytesMax;
    this.#shareMax = flightBytesMax * SHARE;
    this.#stallMs = stallSeconds * MS;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Counts bytes if they fit beside those in flight, and into the caller's share beside the caller's own. A request is accepted at any size
   * if nothing but its own bytes (`own`) is in flight.
   */
  take(bytes: number, own = 0, caller = NOBODY): boolean {
    if (this.#tooMany(bytes, own, caller) !== null) return false;
    this.hold(bytes, caller);
    return true;
  }

  give(bytes: number, caller = NOBODY): void {
    this.hold(-bytes, caller);
  }

  /** What is in memory is counted, whether it fits or not. */
  hold(bytes: number, caller = NOBODY): void {
    this.#bytes += bytes;
    const has = this.#of(caller) + bytes;
    if (has === 0) this.#byCaller.delete(caller);
    else this.#byCaller.set(caller, has);
  }

  /** Counts as `take` does, or throws the problem of too many. */
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
    if (this.#bytes > own && this.#bytes + bytes > this.#bytesMax)
      return `${this.#bytes} bytes of bodies and answers are in flight (${setting})`;
    const has = this.#of(caller);
    if (caller !== NOBODY && has > own && has + bytes > this.#shareMax)
      return `${has} bytes of ${caller}'s bodies and answers are in flight, and one caller may have half of all (${setting})`;
    return null;
  }

  /** To be called as soon as it is known who sends a request. */
  isOf(request: IncomingMessage, caller: string): void {
    if (!WITHOUT_SHARE.has(caller)) this.#callers.set(request, caller);
  }

  /** What a request holds of it: until its response is closed, or its connection. */
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

  /** The same where it has been asked for before. */
  loadOfRequest(request: IncomingMessage): Load {
    return this.#loads.get(request) as Load;
  }

  /** Counts a command's answer, if it is large. One that took elements out has done so: its answer is not refused. */
  answered(response: ServerResponse, { cmd, caller }: Pick<Request, "cmd" | "caller">, outcome: Outcome): void {
    const bytes = outcomeBytes(outcome);
    if (bytes <= SMALL_BYTES) return;
    this.isOf(response.req, caller);
    if (commandFacts(cmd)?.takes === true) this.loadOf(response).hold(bytes);
    else this.loadOf(response).take(bytes);
  }

  /** Closes the connection of a reader that takes nothing of its answer for the setting's time. One that has taken all there is to take waits. */
  watchReader(response: ServerResponse): void {
    if (this.#watched.has(response)) return;
    this.#watched.add(response);
    const { socket } = response.req;
    socket.setTimeout?.(this.#stallMs);
    response.on("timeout", () => {
      if (response.writableLength > 0 || response.writableNeedDrain) socket.destroy();
    });
  }

  /** The same for whoever sends a body: node:http closes a connection whose timeout nobody handles. */
  watchSender({ socket }: IncomingMessage): void {
    socket.setTimeout?.(this.#stallMs);
  }

  unwatchSender({ socket }: IncomingMessage): void {
    socket.setTimeout?.(0);
  }

  /** A response that waits behind others on its connection is not told when this is closed. */
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

  /** Counts more bytes; throws the problem of too many. */
  take(bytes: number): void {
    if (this.#ended) return;
    this.#flight.mustTake(bytes, this.#bytes, this.#caller);
    this.#bytes += bytes;
  }

  /** Counts what is there already. */
  hold(bytes: number): void {
    if (this.#ended) return;
    this.#flight.hold(bytes, this.#caller);
    this.#bytes += bytes;
  }

  /** Gives a part back, of what is not needed any more. */
  give(bytes: number): void {
    if (this.#ended) return;
    this.#flight.give(bytes, this.#caller);
    this.#bytes -= bytes;
  }

  /** What the request holds is not needed any more; it may hold something again. */
  giveAll(): void {
    this.give(this.#bytes);
  }

  end(): void {
    this.giveAll();
    this.#ended = true;
  }
}
