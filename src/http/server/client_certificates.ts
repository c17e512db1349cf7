import type { DetailedPeerCertificate, Server, TLSSocket } from "node:tls";
import { certificatesIn, contextOf, fingerprintOf, type Tls } from "./certificates.ts";

/** No chain that OpenSSL takes is longer. */
const CHAIN_MAX = 100;

/**
 * The connections of a TLS server whose client an authority vouches for. When an authority is taken back, or a certificate of the chain
 * ends, its connections are closed, with all that goes on over them: a client whose certificate still counts comes again.
 */
export class ClientCertificates {
  /** Until when each is vouched for, in milliseconds since the epoch. */
  readonly #connections = new Map<TLSSocket, number>();
  readonly #server: Server;
  /** SHA-256 of each authority; null: none is asked for. */
  #authorities: ReadonlySet<string> | null;
  /** An authority is being taken back: whoever might have come by it goes. */
  #isRetaking = false;
  /** One was: a TLS session of before may be of it. */
  #hasRetaken = false;

  constructor(server: Server, tls: Tls) {
    this.#server = server;
    this.#authorities = authoritiesOf(tls);
    server.on("secureConnection", (connection) => this.#add(connection));
  }

  /** From now on the server speaks TLS with these. Connections under way stay, but for those of clients that no authority vouches for. */
  use(tls: Tls): void {
    this.#server.setSecureContext(contextOf(tls));
    const before = this.#authorities ?? new Set();
    this.#authorities = authoritiesOf(tls);
    this.#isRetaking = [...before].some((one) => this.#authorities?.has(one) !== true);
    this.#hasRetaken ||= this.#isRetaking;
    for (const connection of [...this.#connections.keys()])
      if (this.#vouchedUntil(connection) === null) connection.destroy();
    this.#isRetaking = false;
  }

  /** Closes connections whose client's certificate has ended meanwhile: a handshake looks at times once. */
  closeEnded(nowMs: number): void {
    for (const [connection, untilMs] of [...this.#connections]) if (untilMs < nowMs) connection.destroy();
  }

  /** A handshake may have begun before the authorities changed. */
  #add(connection: TLSSocket): void {
    if (!connection.authorized) return;
    const untilMs = this.#vouchedUntil(connection);
    if (untilMs === null) {
      connection.destroy();
      return;
    }
    this.#connections.set(connection, untilMs);
    connection.once("close", () => this.#connections.delete(connection));
  }

  /**
   * Until the first certificate of its chain ends; null: no authority vouches for it. By the very certificate of the authority that the
   * handshake went by, so that all else that OpenSSL has found of the chain holds on.
   */
  #vouchedUntil(connection: TLSSocket): number | null {
    if (this.#authorities === null) return null;
    let untilMs = Number.POSITIVE_INFINITY;
    let at: DetailedPeerCertificate | undefined = connection.getPeerCertificate(true);
    for (let left = CHAIN_MAX; left > 0 && at?.fingerprint256 !== undefined; left--) {
      untilMs = Math.min(untilMs, Date.parse(at.valid_to));
      if (this.#authorities.has(fingerprintOf(at))) return untilMs;
      if (at.issuerCertificate === at) return null;
      // Of a chain with an authority between, Node shows the client's own certificate alone.
      if (at.issuerCertificate === undefined) return this.#mayBeOfRetaken(connection) ? null : untilMs;
      at = at.issuerCertificate;
    }
    return null;
  }

  #mayBeOfRetaken(connection: TLSSocket): boolean {
    return this.#isRetaking || (this.#hasRetaken && connection.isSessionReused());
  }
}

function authoritiesOf({ clientCa }: Tls): ReadonlySet<string> | null {
  return clientCa === null ? null : new Set(certificatesIn(clientCa, "MAPLEDGER_TLS_CLIENT_CA").map(fingerprintOf));
}
