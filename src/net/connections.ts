/** Closes a service's connections when it stops. */

import type { Server, Socket } from "node:net";
import { Server as TlsServer } from "node:tls";
import { responseOf } from "./pipelines.ts";

/** How long requests in progress may take after the service began to stop. */
const GRACE_MS = 5000;

/** The part of a Fastify application that is needed to close it. */
interface App {
  readonly server: Server;
  close(): PromiseLike<unknown>;
}

/**
 * The servers of a service and their open connections. Server.close() waits for every connection on which a request may
 * still arrive, so a connection that a client keeps open would keep the service from stopping.
 */
export class Connections {
  readonly #app: App;
  readonly #unix: Server | null;
  /** Every accepted connection; for TLS, the TCP connection below it. */
  readonly #accepted = new Set<Socket>();
  /** The connections that carry HTTP; for TLS, the TLS sockets. */
  readonly #http = new Set<Socket>();

  /**
   * `unix`: a second server for the same routes on a unix socket; null: there is none. `passedOn`: one that listens
   * nowhere, and is given its connections.
   */
  constructor(app: App, unix: Server | null, passedOn: Server | null = null) {
    this.#app = app;
    this.#unix = unix;
    for (const server of [app.server, unix, passedOn]) {
      if (server === null) continue;
      keep(server, "connection", this.#accepted);
      keep(server, server instanceof TlsServer ? "secureConnection" : "connection", this.#http);
    }
  }

  /** Stops the servers. Connections without a request in progress are closed at once, all others after GRACE_MS. */
  async close(): Promise<void> {
    const unix = this.#unix;
    const closed = Promise.all([
      this.#app.close(),
      unix === null ? null : new Promise((resolve) => unix.close(resolve)),
    ]);
    for (const socket of this.#http) if (responseOf(socket) === null) socket.destroy();
    setTimeout(() => {
      for (const socket of this.#accepted) socket.destroy();
    }, GRACE_MS).unref();
    await closed;
  }
}

function keep(server: Server, event: string, open: Set<Socket>): void {
  server.on(event, (socket: Socket) => {
    open.add(socket);
    socket.once("close", () => open.delete(socket));
  });
}
