/**
 * The service without an engine (`mapledger serve --read-only`). The threads of index, history and tree work on the
 * private copy as they do in service.ts, which puts together the service that writes; but the tree signs nothing. The
 * present is the past right after the last event: routes read it from the history (http/views/read_only_engine.ts).
 */

import type { Socket } from "node:net";
import { resolve } from "node:path";
import { type Logger, pino } from "pino";
import { Callers } from "../access/callers.ts";
import { limitsOf, readSettings, type Settings, settingWarnings } from "../config.ts";
import { ownToken } from "../data/own_access.ts";
import { makeScratch, readOnlyData } from "../data/read_only_copy.ts";
import { type ArchivedPlaces, ArchiveRefused, type Archiver } from "../engine/archives.ts";
import { Turns } from "../engine/turn_queue.ts";
import { UMASK } from "../files/modes.ts";
import { buildApp, unixServer } from "../http/app.ts";
import { Jobs } from "../http/jobs/jobs.ts";
import { Replays } from "../http/jobs/replays.ts";
import { Refusals } from "../http/server/access.ts";
import { identityAt, socketIdentity, tcpIdentity } from "../http/server/auth.ts";
import { ClientCertificates } from "../http/server/client_certificates.ts";
import { Flight } from "../http/server/flight.ts";
import { loadLate } from "../http/server/late_modules.ts";
import { checkListen, listenOnSocket, socketPath } from "../http/server/listeners.ts";
import { Metrics } from "../http/server/metrics.ts";
import { UnderWay } from "../http/server/requests_under_way.ts";
import { UnknownCallers } from "../http/server/unknown_callers.ts";
import { LogStreams } from "../http/streams/log_streams.ts";
import { KnownTypes } from "../http/views/forms.ts";
import { ReadOnlyEngine } from "../http/views/read_only_engine.ts";
import { ArchivedClient } from "../index/archived_client.ts";
import { ThreadedEventReader } from "../index/client.ts";
import { ARCHIVED, READER } from "../index/protocol.ts";
import { WholeEvents } from "../index/whole_events.ts";
import { ClientProcesses } from "../mirror/client_processes.ts";
import { streamLimit } from "../mirror/descriptor_limit.ts";
import { Connections } from "../net/connections.ts";
import { Senders } from "../net/senders.ts";
import { PastClient } from "../past/client.ts";
import { PAST } from "../past/protocol.ts";
import { WholePast } from "../past/whole_past.ts";
import { Degraded } from "../supervisor/degradation.ts";
import { ThreadedTree } from "../tree/client.ts";
import { TREE } from "../tree/protocol.ts";
import { VERSION } from "../version.ts";
import { CallersFile } from "./callers_file.ts";
import { checkSettingFiles } from "./setting_files.ts";
import { TlsFiles } from "./tls_files.ts";
import { readWitnesses } from "./witnesses_file.ts";

/** The longest time that a stop waits for requests that are being answered. */
const STOP_MS = 10_000;
const CLIENTS_MS = 1000;
const READ_ONLY = "the service is read-only";
/** The rule of checkpoints for a service that signs none. */
const NEVER = { events: 0, seconds: 0 };

/**
 * Serves reads of a copied data directory, a backup or an archive. The directory is not changed, no engine runs, and
 * the kernel is not used. Everything that the service writes is in a private directory, which is removed when it ends.
 */
export async function serveReadOnly(directory: string): Promise<void> {
  process.umask(UMASK);
  const settings = readSettings(process.env);
  checkSettingFiles(settings);
  const logger = pino({ level: settings.logLevel });
  try {
    await serve(directory, settings, logger);
  } catch (error) {
    logger.fatal({ err: error }, "the service cannot start");
    await new Promise((resolve) => logger.flush(resolve));
    process.exit(1);
  }
}

async function serve(directory: string, settings: Settings, logger: Logger): Promise<void> {
  for (const warning of settingWarnings(process.env)) logger.warn(warning);
  checkListen(settings);
  const tlsFiles = settings.tlsCert === "" ? null : new TlsFiles(settings, (message) => logger.warn(message));
  const socket = ownSocket(settings, directory);
  if (socket === null && settings.port === null)
    throw new Error(
      "there is nothing to listen on: MAPLEDGER_PORT is empty, and MAPLEDGER_SOCKET does not name a unix socket",
    );
  const { scratch, removed } = makeScratch();
  for (const left of removed) logger.info(`removed ${left}, left by a service that was killed`);
  process.on("SIGINT", () => stop("SIGINT"));
  process.on("SIGTERM", () => stop("SIGTERM"));
  let closing: (() => Promise<void>) | null = null;
  let isStopping = false;
  const stop = (why: string): void => {
    if (isStopping) return;
    isStopping = true;
    notReady = "the service is stopping";
    logger.info(`stopping: ${why}`);
    setTimeout(() => process.exit(1), STOP_MS).unref();
    // The exit removes the private directory.
    (closing?.() ?? Promise.resolve()).finally(() => process.exit(0));
  };
  let notReady: string | null = "the log is being read";
  const { kind, archive, lastSeq, ledger } = await readOnlyData(directory, settings, scratch);
  const { callers, file: tokenFile } = knownCallers(settings, scratch);
  const degraded = new Degraded((fault, message) => logger[fault === null ? "info" : "error"]({ ...fault }, message));
  const report = (message: string): void => logger.error(message);
  const data = { data: scratch };
  const kept = new ThreadedEventReader(() => READER.start(data), report, degraded.teller("index"));
  const keptPast = new PastClient(() => PAST.start({ ...data, archived: null }), report, degraded.teller("history"));
  const places = { data: scratch, archive: resolve(archive), foreign: true } satisfies ArchivedPlaces;
  const archived = new ArchivedClient(() => ARCHIVED.start(places), report);
  const whole = new PastClient(() => PAST.start({ ...data, archived: places }), report, null);
  const vkeys = readWitnesses(settings.witnesses).flatMap(({ keys }) => keys.map(({ vkey }) => vkey));
  const treeData = { ...data, origin: "", rule: NEVER, witnesses: vkeys, readOnly: true } as const;
  const tree = new ThreadedTree(() => TREE.start(treeData), {
    report,
    record: async () => false,
    published: () => {},
    told: degraded.teller("tree"),
  });
  const events = new WholeEvents(kept, archived);
  const past = new WholePast({ kept: keptPast, whole, events: kept, archived });
  const engine = new ReadOnlyEngine(past, lastSeq, () => callers.limits);
  const callerLimits = limitsOf(settings);
  const bulk = { flight: new Flight(settings), turns: new Turns() };
  const underWay = new UnderWay();
  const processes = new ClientProcesses();
  const unixConnections = new WeakSet<Socket>();
  const isUnix = (connection: Socket): boolean => unixConnections.has(connection);
  const ofSocket = socketIdentity(callers, (fd) => processes.peerOf(fd));
  const replays = new Replays(() => ({ refused: READ_ONLY }));
  const archiver = archiverOf(places.archive);
  const parts = {
    engine,
    events,
    past,
    ledger: () => ledger,
    present: { seq: lastSeq },
    tree,
    witnesses: () => [],
    archiver,
    settings,
    metrics: new Metrics(),
    replays,
    jobs: new Jobs(replays, archiver, callerLimits),
    streams: new LogStreams(streamLimit(settings.streamsMax, 2), callerLimits, bulk),
    ...bulk,
    callers,
    refusals: new Refusals({ run: async () => ({ failure: "log failed", detail: READ_ONLY, done: "nothing" }) }),
    unknownCallers: new UnknownCallers((fields, message) => logger.warn(fields, message)),
    underWay,
    senders: new Senders(),
    knownTypes: new KnownTypes(),
    identity: identityAt(isUnix, ofSocket, tcpIdentity(callers, settings.auth)),
    processesAt: () => null,
    tls: tlsFiles?.tls ?? null,
    objects: null,
    kernelBtf: null,
    ready: () => notReady,
    mirrorOff: () => READ_ONLY,
    degraded: () => degraded.faults,
    reached: () => ({ index: kept.seq, history: keptPast.seq }),
    version: VERSION,
    logger,
  } as const;
  const app = await buildApp(parts);
  const unix =
    socket === null ? null : unixServer(app, parts).on("connection", (one: Socket) => unixConnections.add(one));
  const connections = new Connections(app, unix);
  closing = async () => {
    await connections.close();
    await Promise.all([events.close(), keptPast.close(), whole.close(), tree.close()]);
  };
  followFiles(settings, callers, underWay, tlsFiles, app.server);
  for (const each of [kept, keptPast, tree]) each.start();
  if (unix !== null && socket !== null) await listenOnSocket(unix, socket, settings);
  const listening = settings.port === null ? null : await app.listen({ host: settings.host, port: settings.port });
  const url = tlsFiles === null ? listening : (listening?.replace(/^http:/, "https:") ?? null);
  // The state at the log's end is read once before the service is ready, so that no request waits for it.
  await keptPast.query({ seq: lastSeq }, "directories", { after: "", limit: 1 }).catch((error: Error) => {
    throw new Error(`the state after the events of ${directory} cannot be read: ${error.message}`);
  });
  if (isStopping) return;
  notReady = null;
  loadLate((error) => logger.warn({ err: error }, "loading modules late"));
  if (tokenFile !== null && settings.auth === "on")
    logger.info(
      { file: tokenFile },
      `requests over TCP need a token: curl -H "authorization: Bearer $(cat ${tokenFile})"`,
    );
  logger.info(
    { url: url ?? undefined, socket: socket ?? undefined, directory, kind, seq: lastSeq, scratch, version: VERSION },
    `mapledger serves ${[socket, url].filter((place) => place !== null).join(" and ")}, read-only, from the ${kind} ${directory}`,
  );
}

/**
 * The path of the unix socket; null unless MAPLEDGER_SOCKET is set, because the default path is in the data directory,
 * in which nothing is made. Throws an Error if the path is in that directory.
 */
function ownSocket(settings: Settings, directory: string): string | null {
  if (settings.socket === "") return null;
  const { path } = socketPath(settings);
  if (path !== null && resolve(path).startsWith(`${resolve(directory)}/`))
    throw new Error(`MAPLEDGER_SOCKET is ${path}, but nothing can be made in ${directory}, which is only read`);
  return path;
}

/** Makes the callers. If the service listens on TCP, makes an owner's token for this run. */
function knownCallers(
  settings: Settings,
  scratch: string,
): { readonly callers: Callers; readonly file: string | null } {
  const own = settings.port === null ? null : ownToken(scratch);
  return { callers: new Callers(process.geteuid?.() ?? 0, own?.token ?? null), file: own?.file ?? null };
}

/** Keeps callers and certificates up to date with their files. */
function followFiles(
  settings: Settings,
  callers: Callers,
  underWay: UnderWay,
  tlsFiles: TlsFiles | null,
  server: ConstructorParameters<typeof ClientCertificates>[0] | object,
): void {
  const warn = (message: string): void => void process.emitWarning(message);
  const changed = (): void => underWay.recheck();
  const tokens = settings.tokens === "" ? null : new CallersFile({ file: settings.tokens, callers, changed, warn });
  tokens?.watch();
  process.on("SIGHUP", () => tokens?.reread());
  if (tlsFiles === null || settings.port === null) return;
  const clients = new ClientCertificates(server as ConstructorParameters<typeof ClientCertificates>[0], tlsFiles.tls);
  setInterval(() => clients.closeEnded(Date.now()), CLIENTS_MS).unref();
  tlsFiles.watch((tls) => clients.use(tls));
  process.on("SIGHUP", () => tlsFiles.reread());
}

function archiverOf(directory: string): Archiver {
  return {
    directory,
    job: null,
    begin: async () => {
      throw new ArchiveRefused("nothing to archive", READ_ONLY);
    },
  };
}
