/**
 * The peers of events. An event without a peer of its own has the peer of its session's opening event, which the index
 * keeps; the latest ones are cached here.
 */

import type { EventReader } from "../../engine/events.ts";
import type { EventRow } from "../../log/event.ts";
import type { EngineDoor } from "../server/ports.ts";

/** The most sessions whose peer is cached. */
const KNOWN_MAX = 65_536;

export interface PeerParts {
  readonly engine: Pick<EngineDoor, "query">;
  readonly events: Pick<EventReader, "peers">;
}

/** Returns the peer of an event's session, or null if it is unknown. */
export type PeerOf = (row: EventRow) => string | null;

/** Finds the peers of sessions. */
export class SessionPeers {
  readonly #parts: PeerParts;
  readonly #known = new Map<number, string>();

  constructor(parts: PeerParts) {
    this.#parts = parts;
  }

  /** The peers of these events' sessions. */
  async of(rows: readonly EventRow[]): Promise<PeerOf> {
    const asked = new Set(rows.map(({ session }) => session));
    asked.delete(0);
    for (const session of asked) if (this.#known.has(session)) asked.delete(session);
    const unknown = [...asked];
    const peers = unknown.length === 0 ? [] : await this.#ask(unknown);
    // The answer is complete on its own, because the cache may be cleared below.
    const now = new Map(unknown.map((session, at) => [session, peers[at] ?? null]));
    const peerOf = (session: number): string | null => now.get(session) ?? this.#known.get(session) ?? null;
    const all = new Map(rows.map(({ session }) => [session, peerOf(session)]));
    if (this.#known.size + now.size > KNOWN_MAX) this.#known.clear();
    // An unknown peer is not cached: the session may be indexed later.
    for (const [session, peer] of now) if (peer !== null) this.#known.set(session, peer);
    return ({ session }) => all.get(session) ?? null;
  }

  /** Asks the engine for live sessions, because the log's end may not be indexed yet, and the index for ended ones. */
  async #ask(sessions: readonly number[]): Promise<(string | null)[]> {
    const living = await this.#parts.engine.query("peers", { sessions });
    const ended = sessions.filter((_, at) => living[at] === undefined);
    const told = ended.length === 0 ? [] : await this.#parts.events.peers(ended);
    const peers = new Map(ended.map((session, at) => [session, told[at] ?? null]));
    return sessions.map((session, at) => living[at] ?? peers.get(session) ?? null);
  }
}
