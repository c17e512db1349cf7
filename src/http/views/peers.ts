/**
 * The peer of an event that does not say one: the peer of its session's opening event. The index keeps these, and this
 * the latest of them.
 */

import type { EventReader } from "../../engine/events.ts";
import type { EventRow } from "../../log/event.ts";
import type { EngineDoor } from "../server/ports.ts";

/** Sessions whose peer is remembered. */
const KNOWN_MAX = 65_536;

export interface PeerParts {
  readonly engine: Pick<EngineDoor, "query">;
  readonly events: Pick<EventReader, "peers">;
}

/** From where an event's command came; null: nothing says it. */
export type PeerOf = (row: EventRow) => string | null;

/** From where sessions were opened: an event that has no peer of its own has its session's. */
export class SessionPeers {
  readonly #parts: PeerParts;
  readonly #known = new Map<number, string>();

  constructor(parts: PeerParts) {
    this.#parts = parts;
  }

  /** Of the sessions of these events; null: nothing says it. */
  async of(rows: readonly EventRow[]): Promise<PeerOf> {
    const asked = new Set(rows.map(({ session }) => session));
    asked.delete(0);
    for (const session of asked) if (this.#known.has(session)) asked.delete(session);
    const unknown = [...asked];
    const peers = unknown.length === 0 ? [] : await this.#ask(unknown);
    // What is needed here is kept beside what is remembered.
    const now = new Map(unknown.map((session, at) => [session, peers[at] ?? null]));
    const peerOf = (session: number): string | null => now.get(session) ?? this.#known.get(session) ?? null;
    const all = new Map(rows.map(({ session }) => [session, peerOf(session)]));
    if (this.#known.size + now.size > KNOWN_MAX) this.#known.clear();
    // Of others it may be found yet.
    for (const [session, peer] of now) if (peer !== null) this.#known.set(session, peer);
    return ({ session }) => all.get(session) ?? null;
  }

  /** Those that live are the engine's to tell of: its log's end may not be indexed yet. */
  async #ask(sessions: readonly number[]): Promise<(string | null)[]> {
    const living = await this.#parts.engine.query("peers", { sessions });
    const ended = sessions.filter((_, at) => living[at] === undefined);
    const told = ended.length === 0 ? [] : await this.#parts.events.peers(ended);
    const peers = new Map(ended.map((session, at) => [session, told[at] ?? null]));
    return sessions.map((session, at) => living[at] ?? peers.get(session) ?? null);
  }
}
