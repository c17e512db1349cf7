import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import type { FastifyBaseLogger, FastifyInstance, FastifyReply, RawServerDefault } from "fastify";
import type { Callers } from "../access/callers.ts";
import type { MapLimits } from "../access/map_limits.ts";
import type { Scopes } from "../access/scopes.ts";
import type { Moment } from "../codec/moments.ts";
import type { Settings } from "../config.ts";
import type { Archiver } from "../engine/archives.ts";
import type { Connection } from "../engine/client.ts";
import type { Reply, Request } from "../engine/request.ts";
import type { EventReader } from "../engine/events.ts";
import type { Queries, QueryName } from "../engine/queries.ts";
import type { Turns } from "../engine/turn_queue.ts";
import type { Ledger } from "../log/position.ts";
import type { Past } from "../past/past.ts";
import type { PartFault } from "../supervisor/derived_parts.ts";
import type { ClientProcess, Found, HeldObject, ObjectSpec } from "../syscall/command.ts";
import type { Outcome } from "../syscall/outcome.ts";
import type { TreeReader, WitnessStatus } from "../tree/ports.ts";
import type { Jobs } from "./jobs/jobs.ts";
import type { Replays } from "./jobs/replays.ts";
import { notDone, type Refusals } from "./server/access.ts";
import type { Identity } from "./server/auth.ts";
import type { Tls } from "./server/certificates.ts";
import type { Flight } from "./server/flight.ts";
import type { Metrics } from "./server/metrics.ts";
import { refused } from "./server/problems.ts";
import type { UnderWay } from "./server/requests_under_way.ts";
import type { UnknownCallers } from "./server/unknown_callers.ts";
import type { LogStreams } from "./streams/log_streams.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** Who sends it, by the name that events have. */
    caller: string;
    /** From where, as events tell it; undefined: the machine does not say. */
    peer: string | undefined;
    /** What he may do. */
    scopes: Scopes;
    /** On which maps; undefined: on all. */
    limits: MapLimits | undefined;
    /** It comes from nobody who is known, and is answered all the same. */
    isAnybodys: boolean;
  }
}

/** The engine as the routes see it. */
export interface EngineDoor {
  /** Commands that are waiting for their answer. */
  readonly waiting: number;
  /** Of the last event that is known to be in the log. */
  readonly seq: number;
  /** Calls the listener whenever the log has grown, until the function that is answered is called. */
  onGrowth(listener: () => void): () => void;
  /** `connection`: by which it came; what has not reached the engine when that is closed is not run. */
  run(request: Request, connection?: Connection): Promise<Reply>;
  query<Name extends QueryName>(name: Name, ask: Queries[Name]["ask"]): Promise<Queries[Name]["answer"]>;
}

/** The past as the routes see it. */
export type PastDoor = Pick<Past, "run" | "query" | "ask">;

/** Which processes clients are, or may name. */
export interface ClientProcesses {
  /**
   * The process that made a connection, by the connection's descriptor in this process; or another by its pid. What is refused
   * is a problem's name and detail.
   */
  find(
    socket: number,
    pid: number | null,
  ): ClientProcess | { readonly refused: "no-process" | "process-foreign" | "process-hidden"; readonly detail: string };
}

/** Opens real objects, in a thread of its own. */
interface ObjectOpener {
  /** null: an object of the ledger's own, which the machine has none of; `later`: why it could not be asked at present. */
  open(spec: ObjectSpec): Promise<Opened | { readonly later: string } | null>;
  /** Closes one that the engine has not taken. */
  discard(opened: Opened): void;
}

/** What the machine says of an object, and what holds it. */
interface Opened {
  readonly found: Found;
  readonly held?: HeldObject;
}

/** What the service over HTTP is put together from. */
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
  /** Why the service is not ready, or null. */
  readonly ready: () => string | null;
  /** Which of the parts that are made from the log do not serve at present. */
  readonly degraded: () => readonly PartFault[];
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
  /** How it is known who sends a request. */
  readonly identity: Identity;
  /** null: the TCP port has no TLS. */
  readonly tls: Tls | null;
  readonly version: string;
  /** Where the log lines go; left out, to standard output at the settings' level. */
  readonly logger?: FastifyBaseLogger;
}

export type App = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

/** What each plugin of routes is registered with. */
export interface RouteOptions {
  readonly parts: Parts;
}

/** A command that ran. */
export interface Ran {
  readonly seq: number;
  readonly outcome: Outcome;
}

/** Runs a command whatever its errno. Throws the problem of one that did not happen. */
export async function run(parts: Parts, reply: FastifyReply, request: Request): Promise<Ran> {
  const { raw, caller, peer, limits } = reply.request;
  const asked = limits === undefined ? { ...request, peer } : { ...request, peer, limits: limits.id };
  const answer = await parts.engine.run(asked, raw.socket);
  if ("failure" in answer) throw notDone(parts, { caller, peer, limits }, raw, answer);
  parts.flight.answered(reply.raw, request, answer.outcome);
  reply.header("mapledger-seq", String(answer.seq));
  return answer;
}

/** Runs a command that must succeed. Throws the problem of its errno. */
export async function must(parts: Parts, reply: FastifyReply, request: Request): Promise<Ran> {
  const ran = await run(parts, reply, request);
  if (ran.outcome.errno !== 0) throw refused(request, ran.outcome, ran.seq);
  return ran;
}
