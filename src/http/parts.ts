/**
 * The parts that the service over HTTP consists of. The rooms of `http/` are a ladder, and imports go down it:
 * `schemas/` (the words of the API's document), `server/` (identity, scopes, bodies, answers, problems and the fast
 * path of every request), `views/` (what requests name, and how answers are written) beside `jobs/` (replays, imports)
 * and `fronts/` (HTTP threads), `streams/` (whatever follows the log, and pages), `routes/` (a schema and a handler
 * each), and `app.ts`, which puts them together. No room imports this file: each module declares the few parts that it needs.
 */

import type { Socket } from "node:net";
import type { FastifyBaseLogger } from "fastify";
import type { Callers } from "../access/callers.ts";
import type { Moment } from "../codec/moments.ts";
import type { Settings } from "../config.ts";
import type { Archiver } from "../engine/archives.ts";
import type { EventReader } from "../engine/events.ts";
import type { Turns } from "../engine/turn_queue.ts";
import type { Ledger } from "../log/position.ts";
import type { Senders } from "../net/senders.ts";
import type { PartFault } from "../supervisor/derived_parts.ts";
import type { TreeReader, WitnessStatus } from "../tree/ports.ts";
import type { Jobs } from "./jobs/jobs.ts";
import type { Replays } from "./jobs/replays.ts";
import type { Refusals } from "./server/access.ts";
import type { Identity } from "./server/auth.ts";
import type { Tls } from "./server/certificates.ts";
import type { Flight } from "./server/flight.ts";
import type { Metrics, Reached } from "./server/metrics.ts";
import type { ClientProcesses, EngineDoor, KernelBtf, ObjectOpener, PastDoor } from "./server/ports.ts";
import type { UnderWay } from "./server/requests_under_way.ts";
import type { UnknownCallers } from "./server/unknown_callers.ts";
import type { LogStreams } from "./streams/log_streams.ts";
import type { KnownTypes } from "./views/forms.ts";

/** What the service over HTTP is put together from. Nothing below app.ts takes all of it: each module names the few that it needs. */
export interface Parts {
  readonly engine: EngineDoor;
  readonly events: EventReader;
  readonly past: PastDoor;
  /** Which ledger it is, once it is ready. */
  readonly ledger: () => Ledger;
  /** The log's last event, of a service that only reads: all is as it was right after it. Left out: it takes commands. */
  readonly present?: Moment;
  readonly tree: TreeReader;
  /** How it stands with the log's witnesses. */
  readonly witnesses: () => readonly WitnessStatus[];
  readonly archiver: Archiver;
  readonly settings: Settings;
  readonly metrics: Metrics;
  /** Those that run, over all listeners of the service. */
  readonly replays: Replays;
  /** Those that follow the log, over all listeners of the service. */
  readonly streams: LogStreams;
  /** Who is at the other end of a connection; null: it is none of the unix socket's. */
  readonly processesAt: (connection: Socket) => ClientProcesses | null;
  /** null: no machine has real objects for this service. */
  readonly objects: ObjectOpener | null;
  /** null: a service that only reads asks no kernel. */
  readonly kernelBtf: KernelBtf | null;
  /** Why the service is not ready, or null. */
  readonly ready: () => string | null;
  /** Which of the parts that are made from the log do not serve at present. */
  readonly degraded: () => readonly PartFault[];
  /** The last events that the index and the history include. */
  readonly reached: () => Reached;
  /** Why kernel maps do not follow at present, or null. */
  readonly mirrorOff: () => string | null;
  /** Who is known, over all listeners of the service. */
  readonly callers: Callers;
  /** Of known callers, over all listeners of the service. */
  readonly refusals: Refusals;
  readonly unknownCallers: UnknownCallers;
  readonly jobs: Jobs;
  /** Large bodies and answers, over all listeners of the service. */
  readonly flight: Flight;
  /** For what is done in pieces, over all listeners of the service. */
  readonly turns: Turns;
  /** Requests, over all listeners of the service. */
  readonly underWay: UnderWay;
  /** The callers of requests, over all listeners of the service. */
  readonly senders: Senders;
  /** The types of maps, over all listeners of the service. */
  readonly knownTypes: KnownTypes;
  /** How it is known who sends a request. */
  readonly identity: Identity;
  /** null: the TCP port has no TLS. */
  readonly tls: Tls | null;
  readonly version: string;
  /** Where the log lines go; left out, to standard output at the settings' level. */
  readonly logger?: FastifyBaseLogger;
}
