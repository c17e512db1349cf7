/** The service as it runs: puts its parts together, starts its threads, listens, and stops. */

import type { AddressInfo, Socket } from "node:net";
import { Server as TlsServer } from "node:tls";
import type { MessagePort, Worker } from "node:worker_threads";
import { type Logger, pino } from "pino";
import { CMD } from "../abi/service.ts";
import { SERVICE_NAME, scopeTexts } from "../access/caller.ts";
import { Callers, type CallersCopy } from "../access/callers.ts";
import type { Line } from "../access/tokens_file.ts";
import { archiveFilesIn } from "../archive/archive.ts";
import { WitnessConnection } from "../client/witness.ts";
import { limitsOf, type Settings, settingWarnings } from "../config.ts";
import { ThreadedArchiver } from "../data/archiver.ts";
import { checkData } from "../data/entries.ts";
import { ownToken } from "../data/own_access.ts";
import { checkWritten } from "../data/version.ts";
import type { ArchivedPlaces } from "../engine/archives.ts";
import { EngineClient } from "../engine/client.ts";
import type { EngineInquiries, FromEngine, ServiceNews } from "../engine/protocol.ts";
import { Turns } from "../engine/turn_queue.ts";
import { makePrivate, narrowFiles } from "../files/modes.ts";
import { buildApp, passedOnServer, unixServer } from "../http/app.ts";
import { Signs } from "../http/fronts/protocol.ts";
import { ThreadCounts } from "../http/fronts/thread_counts.ts";
import { Jobs } from "../http/jobs/jobs.ts";
import { Replays } from "../http/jobs/replays.ts";
import { Refusals } from "../http/server/access.ts";
import { identityAt, socketIdentity, tcpIdentity } from "../http/server/auth.ts";
import type { Tls } from "../http/server/certificates.ts";
import { ClientCertificates } from "../http/server/client_certificates.ts";
import { Flight } from "../http/server/flight.ts";
import { loadLate } from "../http/server/late_modules.ts";
import { checkFree, checkListen, listenOnSocket, socketPath } from "../http/server/listeners.ts";
import { Metrics } from "../http/server/metrics.ts";
import { UnderWay } from "../http/server/requests_under_way.ts";
import { UnknownCallers } from "../http/server/unknown_callers.ts";
import { LogStreams } from "../http/streams/log_streams.ts";
import { KnownTypes } from "../http/views/forms.ts";
import { ArchivedClient } from "../index/archived_client.ts";
import { ThreadedEventReader } from "../index/client.ts";
import { ARCHIVED, READER } from "../index/protocol.ts";
import { WholeEvents } from "../index/whole_events.ts";
import type { Ledger } from "../log/position.ts";
import { ClientProcesses } from "../mirror/client_processes.ts";
import { checkDescriptors, connectionsMax, streamLimit, threadConnectionsMax } from "../mirror/descriptor_limit.ts";
import { ObjectOpener } from "../mirror/object_opener.ts";
import { OBJECT_OPENER } from "../mirror/protocol.ts";
import { openPlaces } from "../mirror/real_objects.ts";
import { Connections } from "../net/connections.ts";
import { Senders } from "../net/senders.ts";
import { PastClient } from "../past/client.ts";
import { PAST } from "../past/protocol.ts";
import { WholePast } from "../past/whole_past.ts";
import { answerTo, hear, isHeard } from "../supervisor/correspondence.ts";
import { Degraded } from "../supervisor/degradation.ts";
import type { Answers, Listeners } from "../supervisor/protocol.ts";
import { ThreadedTree } from "../tree/client.ts";
import { TREE } from "../tree/protocol.ts";
import { VERSION } from "../version.ts";
import { CallersFile } from "./callers_file.ts";
import { checkpointRecorder } from "./checkpoint_events.ts";
import { ENGINE_THREAD } from "./engine_thread.ts";
import { HttpThreads } from "./http_threads.ts";
import { kernelBtf } from "./kernel_btf.ts";
import { openTargetIn } from "./replay_targets.ts";
import { TlsFiles } from "./tls_files.ts";
import { Witnesses, type WitnessTold } from "./witnesses.ts";
import { readWitnesses } from "./witnesses_file.ts";

/**
 * The longest time that a stop takes: five seconds for requests that are being answered, the rest for writes to disk.
 */
const STOP_MS = 10_000;
/** The time for the last answers if the service must end at once. */
const END_MS = 1000;
/** So long after a start, what most requests need is loaded. */
const LATE_MS = 500;
const ROOT = 0;
/** The number of the service's thread among those that serve HTTP. */
const SERVICE_THREAD = 0;

const RECOVERING = "the state is being recovered";

/** The engine's thread, which has been started. */
interface EngineThread {
  readonly thread: Worker;
  /** Rejects if the thread ends with an error. */
  readonly died: Promise<never>;
  /** Lets the thread open the data directory. */
  begin(): void;
}

interface Started {
  readonly settings: Settings;
  /** Make the state again from the log. */
  readonly rebuild: boolean;
  readonly engine: EngineThread;
}

/** Starts the service. Ends the process if that fails. */
export async function serve(started: Started): Promise<void> {
  const logger = pino({ level: started.settings.logLevel });
  try {
    await start(started, logger);
  } catch (error) {
    logger.fatal({ err: error }, "the service cannot start");
    await new Promise((resolve) => logger.flush(resolve));
    process.exit(1);
  }
}

/** Listens before the engine has recovered: until then /livez answers, and /readyz names the step of the recovery. */
async function start({ settings, rebuild, engine: { thread, died, begin } }: Started, logger: Logger): Promise<void> {
  let notReady: string | null = RECOVERING;
  /** null: the service's thread is the only one that serves the TCP port. */
  let fronts: HttpThreads | null = null;
  const signs = new Signs();
  const become = (why: string | null): void => {
    notReady = why;
    signs.isReady = why === null;
  };
  /** Set when the engine has recovered; no request reads it before. */
  let ledger: Ledger = { id: "", life: "" };
  /** The progress of the recovery, for example ": 12 of 40 kernel maps". */
  let howFar = "";
  /** The reason why kernel maps do not follow; null if they do. */
  let mirrorOff: string | null = null;
  for (const warning of settingWarnings(process.env)) logger.warn(warning);
  checkDescriptors();
  checkListen(settings);
  const tlsFiles = settings.tlsCert === "" ? null : new TlsFiles(settings, (message) => logger.warn(message));
  const { path: socket, warning } = socketPath(settings);
  if (warning !== null) logger.warn(warning);
  if (socket === null && settings.port === null)
    throw new Error("there is nothing to listen on: MAPLEDGER_PORT is empty, and there is no unix socket");
  closeToOthers(settings, rebuild, logger);
  const callers = knownCallers(settings, logger);
  const underWay = new UnderWay();
  const metrics = new Metrics();
  const degraded = new Degraded((fault, message) => logger[fault === null ? "info" : "error"]({ ...fault }, message));
  const ready = Promise.withResolvers<ServiceNews["ready"]>();
  const recovered = Promise.race([ready.promise, died]);
  // The promise is awaited below. Without this handler, a failure before that would be reported as an unhandled
  // rejection.
  recovered.catch(() => {});
  const limits = { commandsMax: settings.queueCommandsMax, bytesMax: settings.queueBytesMax };
  const httpThreads = settings.port === null ? 1 : settings.httpThreads;
  const counts = httpThreads === 1 ? null : new ThreadCounts({ threads: httpThreads }, SERVICE_THREAD);
  const engine = new EngineClient(thread, limits, (figures) => metrics.batch(figures), counts?.queue);
  const { data, origin, checkpointEvents, checkpointSeconds } = settings;
  const rule = { events: checkpointEvents, seconds: checkpointSeconds };
  const report = (message: string): void => logger.error(message);
  const kept = new ThreadedEventReader(() => READER.start({ data }), report, degraded.teller("index"));
  const places = { data, archive: settings.archive, foreign: false } satisfies ArchivedPlaces;
  const archived = new ArchivedClient(() => ARCHIVED.start(places), report);
  const events = new WholeEvents(kept, archived);
  const callerLimits = limitsOf(settings);
  const bulk = { flight: new Flight(settings, counts?.flight), turns: new Turns() };
  const listenerCount = (settings.port === null ? 0 : 1) + (socket === null ? 0 : 1);
  const ofStreams = streamLimit(settings.streamsMax, listenerCount, undefined, httpThreads);
  const streams = new LogStreams(ofStreams, callerLimits, bulk);
  const past = new PastClient(() => PAST.start({ data, archived: null }), report, degraded.teller("history"));
  const whole = new PastClient(() => PAST.start({ data, archived: places }), report, null);
  const listeners: Listeners<ServiceNews> = {
    ready: ready.resolve,
    progress({ what, done, total }) {
      howFar = `: ${done} of ${total} ${what}`;
      logger.info({ what, done, total }, `recovering${howFar}`);
    },
    mirror({ off }) {
      mirrorOff = off;
      if (off === null) logger.info("the kernel mirror is on");
      else logger.warn({ detail: off }, "the kernel mirror is off");
    },
    report: ({ message, error }) => logger.error({ detail: error }, message),
    notice: ({ message }) => logger.warn(message),
    part: ({ part, fault }) => degraded.teller(part)(fault),
    ended: ({ why }) => end(why),
  };
  // The engine asks the thread of the past which changes a kernel map lacks, if that map is far behind; also before it has recovered.
  const answers: Answers<EngineInquiries> = {
    lagging: (ask) => past.ask("lagging", ask),
    stood: (ask) => past.ask("stood", ask),
  };
  thread.on("message", (message: FromEngine) => {
    if ("say" in message) {
      if (isHeard(listeners, message)) hear(listeners, message);
    } else if ("name" in message) answerTo(answers, message, ENGINE_THREAD, (answer) => thread.postMessage(answer));
  });
  begin();
  const record = checkpointRecorder(engine, logger);
  const known = readWitnesses(settings.witnesses);
  const vkeys = known.flatMap(({ keys }) => keys.map(({ vkey }) => vkey));
  const treeData = { data, origin, rule, witnesses: vkeys };
  const tree = new ThreadedTree(() => TREE.start(treeData), {
    report,
    record,
    published: () => witnesses.wake(),
    told: degraded.teller("tree"),
  });
  const witnesses = new Witnesses(known, {
    tree,
    connect: (url) => new WitnessConnection(url),
    tell: (told) => tellOfWitness(told, logger),
  });
  followTokens(settings, { callers, underWay, engine, recovered, logger, told: (copy) => fronts?.tellCallers(copy) });
  const objects = settings.mirror === "off" ? null : openerOf(settings, report);
  const archiver = new ThreadedArchiver({ ...settings, directory: settings.archive, engine, past, events, tree });
  const processes = new ClientProcesses();
  const unixConnections = new WeakSet<Socket>();
  const isUnix = (connection: Socket): boolean => unixConnections.has(connection);
  const ofSocket = socketIdentity(callers, (fd) => processes.peerOf(fd));
  const replays = new Replays(openTargetIn(bulk.flight));
  const parts = {
    engine,
    archiver,
    events,
    past: new WholePast({ kept: past, whole, events: kept, archived }),
    ledger: () => ledger,
    tree,
    witnesses: () => witnesses.statuses,
    settings,
    metrics,
    replays,
    jobs: new Jobs(replays, archiver, callerLimits),
    streams,
    ...bulk,
    callers,
    refusals: new Refusals(engine),
    unknownCallers: new UnknownCallers((fields, message) => logger.warn(fields, message)),
    underWay,
    senders: new Senders(),
    knownTypes: new KnownTypes(),
    identity: identityAt(isUnix, ofSocket, tcpIdentity(callers, settings.auth)),
    processesAt: (connection: Socket) => (isUnix(connection) ? processes : null),
    tls: tlsFiles?.tls ?? null,
    objects,
    kernelBtf: kernelBtf(),
    ready: () => (notReady === RECOVERING ? RECOVERING + howFar : notReady),
    mirrorOff: () => mirrorOff,
    degraded: () => degraded.faults,
    reached: () => ({ index: kept.seq, history: past.seq }),
    version: VERSION,
    logger,
  };
  const app = await buildApp(parts);
  const unix =
    socket === null ? null : unixServer(app, parts).on("connection", (one: Socket) => unixConnections.add(one));
  if (tlsFiles !== null && settings.port !== null)
    followCertificates(tlsFiles, app.server, { engine, recovered, logger, told: (tls) => fronts?.tellTls(tls) });
  const servers = [settings.port === null ? null : app.server, unix].filter((server) => server !== null);
  const passedOn = counts === null ? null : passedOnServer(app, parts);
  const connections = new Connections(app, unix, passedOn);

  const stop = once(logger, async (why: string) => {
    const wasReady = notReady === null;
    become("the service is stopping");
    logger.info({ waiting: engine.waiting }, `stopping: ${why}`);
    setTimeout(() => process.exit(1), STOP_MS).unref();
    await Promise.all([connections.close(), fronts?.close()]);
    // An interrupted recovery starts anew at the next start.
    if (!wasReady) process.exit(0);
    await archiver.close();
    const last = await tree.last().catch(() => null);
    if (last !== null) await record(last);
    await witnesses.close();
    await engine.close();
    await Promise.all([events.close(), past.close(), whole.close(), tree.close(), objects?.close()]);
    logger.info("stopped");
  });
  /** Answers the requests that are being handled, and writes nothing any more. */
  const end = once(logger, async (why: string) => {
    become(`the service is ending: ${why}`);
    logger.fatal({ detail: why }, "the service ends");
    setTimeout(() => process.exit(1), END_MS);
    await Promise.all([connections.close(), fronts?.close()]);
    process.exit(1);
  });
  process.on("SIGINT", () => stop("SIGINT"));
  process.on("SIGTERM", () => stop("SIGTERM"));

  const most = connectionsMax();
  const ofEach = most === null ? null : Math.ceil(most / servers.length);
  if (ofEach !== null) for (const server of servers) server.maxConnections = ofEach;
  const ofThread = ofEach === null ? null : threadConnectionsMax(ofEach, httpThreads);
  if (ofThread !== null) app.server.maxConnections = ofThread;
  if (unix !== null && socket !== null) await listenOnSocket(unix, socket, settings);
  if (counts !== null) await checkFree(settings);
  const at = { host: settings.host, port: settings.port ?? 0, reusePort: counts !== null };
  const listening = settings.port === null ? null : await app.listen(at);
  // Fastify does not know that its server speaks TLS.
  const url = tlsFiles === null ? listening : (listening?.replace(/^http:/, "https:") ?? null);
  const { seq, replayed, ...facts } = await recovered;
  mirrorOff = facts.mirrorOff;
  ledger = facts.ledger;
  if (notReady !== RECOVERING) return;
  process.on("uncaughtException", (error) => logger.error({ err: error }, "an error occurred outside of any request"));
  become(null);
  // Until now they would have taken the engine's cores.
  for (const part of [kept, past, tree]) part.start();
  if (counts !== null && passedOn !== null) {
    const connect = (port: MessagePort): void => thread.postMessage({ say: "client", port }, [port]);
    const shared = { settings, counts, signs, callers, refusals: parts.refusals, connect, report };
    const { address: host, port } = app.server.address() as AddressInfo;
    const servers = { at: { host, port }, passedOn, tls: () => tlsFiles?.tls ?? null, connectionsMax: ofThread };
    const started = HttpThreads.start({ ...shared, ...servers }, httpThreads - 1);
    if (typeof started !== "string") fronts = started;
    else {
      logger.warn(`one thread serves the TCP port: ${started}`);
      if (ofEach !== null) app.server.maxConnections = ofEach;
    }
  }
  setTimeout(() => loadLate((error) => logger.warn({ err: error }, "loading modules late")), LATE_MS).unref();
  witnesses.wake();
  thread.on("exit", (code) => {
    if (notReady !== null) return;
    logger.fatal({ code }, "the engine's thread has ended");
    process.exit(1);
  });
  const mirror = mirrorOff === null ? "on" : `off: ${mirrorOff}`;
  const figures = { seq, replayed, ms: Math.round(performance.now()) };
  logger.info(
    { url: url ?? undefined, socket: socket ?? undefined, data: settings.data, mirror, ...figures, version: VERSION },
    `mapledger serves ${[socket, url].filter((place) => place !== null).join(" and ")}, data in ${settings.data}, kernel mirror ${mirror}`,
  );
}

/**
 * Makes the data directory and the archive private. Another user could otherwise read the ledger, or block the log by
 * locking a file.
 */
function closeToOthers({ data, archive }: Settings, rebuild: boolean, logger: Logger): void {
  checkData(data);
  checkWritten(data, rebuild);
  const narrowed = makePrivate(data);
  if (narrowed.length > 0)
    logger.warn(
      { count: narrowed.length, first: narrowed[0] },
      `${data} was open to other users: ${narrowed.length} files and directories are now accessible to their owner only`,
    );
  if (archive !== "") narrowFiles(archive, archiveFilesIn(archive));
}

function tellOfWitness(told: WitnessTold, logger: Logger): void {
  const { url, state, detail, size } = told;
  if (state === "alarm") logger.error(told, `the witness ${url} has seen another history of this log: ${detail}`);
  else if (state === "failing")
    logger.warn(told, `the witness ${url} does not cosign, and will be asked again: ${detail}`);
  else logger.info(told, `the witness ${url} has cosigned a checkpoint of ${size} events`);
}

function openerOf({ data, openRoots }: Settings, report: (message: string) => void): ObjectOpener {
  const start = (): Worker => OBJECT_OPENER.start({ data, openRoots });
  return new ObjectOpener(start, openPlaces({ data, openRoots }), report);
}

/** What it takes to record an event of the service's own. */
interface Recording {
  readonly engine: EngineClient;
  readonly recovered: Promise<unknown>;
  readonly logger: Logger;
}

interface FollowedTokens {
  readonly callers: Callers;
  readonly underWay: UnderWay;
  /** Called when the engine knows the copy's limits. */
  readonly told: (copy: CallersCopy) => void;
}

/** Reads the tokens file now, whenever it changes, and at SIGHUP; each reading is recorded as an event. */
function followTokens(
  settings: Settings,
  { callers, underWay, engine, recovered, logger, told }: Recording & FollowedTokens,
): void {
  const changed = (lines: readonly Line[]): void => {
    underWay.recheck();
    const attr = { callers: lines.map((line) => ({ name: line.name, by: line.by, scopes: scopeTexts(line) })) };
    const { limits } = callers;
    const copy = callers.copy();
    recovered
      .then(() => engine.query("mapLimits", { limits }))
      .then(() => told(copy))
      .then(() => engine.run({ cmd: CMD.CALLERS, session: 0, caller: SERVICE_NAME, attr }))
      .catch((error) => logger.error({ err: error }, "recording who may do what"));
  };
  const warn = (message: string): void => logger.warn(message);
  const file = settings.tokens === "" ? null : new CallersFile({ file: settings.tokens, callers, changed, warn });
  file?.watch();
  process.on("SIGHUP", () => file?.reread());
}

/** Reads the certificates now, whenever a file changes, and at SIGHUP; each reading is recorded as an event. */
function followCertificates(
  files: TlsFiles,
  server: ReturnType<typeof unixServer>,
  { engine, recovered, logger, told }: Recording & { readonly told: (tls: Tls) => void },
): void {
  if (!(server instanceof TlsServer)) throw new Error("the TCP port speaks no TLS");
  const clients = new ClientCertificates(server, files.tls);
  const record = (): void => {
    const attr = files.inForce;
    recovered
      .then(() => engine.run({ cmd: CMD.CERTIFICATES, session: 0, caller: SERVICE_NAME, attr }))
      .catch((error) => logger.error({ err: error }, "recording which certificates are in force"));
  };
  record();
  clients.watch();
  files.watch((tls) => {
    clients.use(tls);
    told(tls);
    const { subject, serial, not_after } = files.inForce.certificate;
    logger.info({ subject, serial, not_after }, "the certificates were read again");
    record();
  });
  process.on("SIGHUP", () => files.reread());
}

/** Makes the callers with the owner's token. Logs how to use a new token, and warns if MAPLEDGER_AUTH is off. */
function knownCallers(settings: Settings, logger: Logger): Callers {
  const own = settings.port === null ? null : ownToken(settings.data);
  if (own?.isNew && settings.auth === "on")
    logger.info(
      { file: own.file },
      `requests over TCP need a token: curl -H "authorization: Bearer $(cat ${own.file})"`,
    );
  if (settings.port !== null && settings.auth === "off")
    logger.warn(
      "MAPLEDGER_AUTH is off: every user of this machine can read every map and all of its history, change maps and the " +
        "kernel maps that follow them, pin, archive and replay",
    );
  return new Callers(process.geteuid?.() ?? ROOT, own?.token ?? null);
}

function once(logger: Logger, run: (why: string) => Promise<void>): (why: string) => void {
  let running = false;
  return (why) => {
    if (running) return;
    running = true;
    run(why).catch((error) => {
      logger.fatal({ err: error }, "stopping failed");
      process.exit(1);
    });
  };
}
