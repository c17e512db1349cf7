/**
 * Closes TLS connections whose client's certificate is no longer valid: it has expired, or its authority was removed.
 */

import type { DetailedPeerCertificate, Server, TLSSocket } from "node:tls";
import { certificatesIn, contextOf, fingerprintOf, type Tls } from "./certificates.ts";

/** More certificates than any chain that OpenSSL accepts. */
const CHAIN_MAX = 100;
/** How often connections of clients whose certificate has ended are closed. */
const ENDED_MS = 1000;

/**
 * The connections of a TLS server whose client has a certificate that an authority signed. If the authority is removed,
 * or a certificate of the chain expires, the connection is closed together with its requests. A client whose
 * certificate is still valid can connect again.
 */
export class ClientCertificates {
  /** By connection: the earliest expiry in its chain, in milliseconds since the epoch. */
  readonly #connections = new Map<TLSSocket, number>();
  readonly #server: Server;
  /** SHA-256 of each authority; null: clients are not asked for a certificate. */
  #authorities: ReadonlySet<string> | null;
  /** `use` is removing an authority: connections whose authority is unknown are closed. */
  #isRetaking = false;
  /** An authority was removed: the client of a resumed TLS session may have been verified by it. */
  #hasRetaken = false;

  constructor(server: Server, tls: Tls) {
    this.#server = server;
    this.#authorities = authoritiesOf(tls);
    server.on("secureConnection", (connection) => this.#add(connection));
  }

  /**
   * Makes the server use these from now on. Open connections stay, except those of clients whose authority was removed.
   */
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

  /** Begins to close connections whose client's certificate has expired. */
  watch(): void {
    setInterval(() => this.closeEnded(Date.now()), ENDED_MS).unref();
  }

  /** Closes connections whose client's certificate has expired: the handshake checks times only once. */
  closeEnded(nowMs: number): void {
    for (const [connection, untilMs] of [...this.#connections]) if (untilMs < nowMs) connection.destroy();
  }

  /** Registers a connection. The authorities may have changed during its handshake. */
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
   * The earliest expiry in a connection's chain; null: no authority vouches for the client. The authority
   * is looked up by the certificate that the handshake verified, so OpenSSL's other checks of the chain remain valid.
   */
  #vouchedUntil(connection: TLSSocket): number | null {
    if (this.#authorities === null) return null;
    let untilMs = Number.POSITIVE_INFINITY;
    let at: DetailedPeerCertificate | undefined = connection.getPeerCertificate(true);
    for (let left = CHAIN_MAX; left > 0 && at?.fingerprint256 !== undefined; left--) {
      untilMs = Math.min(untilMs, Date.parse(at.valid_to));
      if (this.#authorities.has(fingerprintOf(at))) return untilMs;
      if (at.issuerCertificate === at) return null;
      // For a chain with an intermediate authority, Node shows only the client's own certificate.
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
