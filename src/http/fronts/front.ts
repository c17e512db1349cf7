/** An HTTP thread: `protocol.ts` says what it does. */

import type { Server } from "node:http";
import type { Socket } from "node:net";
import { Server as TlsServer } from "node:tls";
import { Callers, type CallersCopy } from "../../access/callers.ts";
import { EngineClient, portEnd } from "../../engine/client.ts";
import { Turns } from "../../engine/turn_queue.ts";
import { Connections } from "../../net/connections.ts";
import { Senders } from "../../net/senders.ts";
import { type Refusal, RefusalProblems } from "../server/access.ts";
import { tcpIdentity } from "../server/auth.ts";
import type { Tls } from "../server/certificates.ts";
import type { ClientAddress } from "../server/client_address.ts";
import { ClientCertificates } from "../server/client_certificates.ts";
import { Flight } from "../server/flight.ts";
import { type HotPath, hotPath } from "../server/hot.ts";
import { KEEP_ALIVE_SECONDS, nodeServer } from "../server/node_server.ts";
import { problemOf } from "../server/problem_answers.ts";
import { PassingOn } from "./passing_on.ts";
import { type FrontData, Signs } from "./protocol.ts";
import { ThreadCounts } from "./thread_counts.ts";

/** No process has it: connections of the TCP port have no uid. */
const NO_UID = -1;

/** How the front reaches the service's thread. */
interface ServiceDoor {
  connection(client: ClientAddress): Promise<number>;
  refused(refusal: Refusal): void;
}

export class Front {
  readonly #server: Server;
  readonly #connections: Connections;
  readonly #callers = new Callers(NO_UID, null);
  readonly #certificates: ClientCertificates | null;
  readonly #passing = new WeakMap<Socket, PassingOn>();
  readonly #flight: Flight;
  readonly #service: ServiceDoor;
  readonly listening: Promise<void>;

  constructor(data: FrontData, service: ServiceDoor) {
    const { settings } = data;
    const tls = data.tls === null ? null : received(data.tls);
    this.#service = service;
    this.#callers.take(data.callers);
    this.#flight = new Flight(settings, new ThreadCounts(data.counts, data.thread).flight);
    const signs = new Signs(data.signs);
    const hot = hotPath(
      {
        engine: engineOf(data),
        callers: this.#callers,
        identity: tcpIdentity(this.#callers, settings.auth),
        senders: new Senders(),
        refusals: new RefusalProblems((refusal) => service.refused(refusal)),
        flight: this.#flight,
        turns: new Turns(),
        settings,
        ready: () => (signs.isReady ? null : "the service's thread says why"),
      },
      problemOf,
      KEEP_ALIVE_SECONDS,
    );
    const answers: HotPath = (request, response) =>
      this.#callers.linesVersion === signs.callersVersion && hot(request, response);
    this.#server = nodeServer(tls, answers, (request, response) =>
      this.#passingOn(request.socket).pass(request, response),
    );
    this.#certificates =
      tls !== null && this.#server instanceof TlsServer ? new ClientCertificates(this.#server, tls) : null;
    this.#certificates?.watch();
    this.#connections = new Connections({ server: this.#server, close: () => closed(this.#server) }, null);
    if (data.connectionsMax !== null) this.#server.maxConnections = data.connectionsMax;
    const { host, port } = data;
    this.listening = new Promise((resolve) => this.#server.listen({ host, port, reusePort: true }, resolve));
  }

  /** The engine must have the copy's limits before this is called. */
  use(callers: CallersCopy): void {
    this.#callers.take(callers);
  }

  renew(tls: Tls): void {
    this.#certificates?.use(received(tls));
  }

  /** Ends when all connections are closed. */
  close(): Promise<void> {
    return this.#connections.close();
  }

  #passingOn(client: Socket): PassingOn {
    const known = this.#passing.get(client);
    if (known !== undefined) return known;
    const passing = new PassingOn(client, {
      open: (address) => this.#service.connection(address),
      watchReader: (response) => this.#flight.watchReader(response),
    });
    this.#passing.set(client, passing);
    return passing;
  }
}

function engineOf({ engine, settings, counts, thread }: FrontData): EngineClient {
  const limits = { commandsMax: settings.queueCommandsMax, bytesMax: settings.queueBytesMax };
  return new EngineClient(portEnd(engine), limits, () => {}, new ThreadCounts(counts, thread).queue);
}

/** Buffers arrive as Uint8Arrays. */
function received({ cert, key, clientCa }: Tls): Tls {
  return { cert: Buffer.from(cert), key: Buffer.from(key), clientCa: clientCa && Buffer.from(clientCa) };
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}
