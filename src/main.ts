import { chmodSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { Worker } from "node:worker_threads";
import { pino } from "pino";
import { ThreadedArchiver } from "./archiver.ts";
import { readSettings, type Settings } from "./config.ts";
import { EventsArchived } from "./engine/archives.ts";
import { EngineClient } from "./engine/client.ts";
import { PastClient } from "./engine/past_client.ts";
import type { FromEngine, ToEngine } from "./engine/worker.ts";
import type { EngineData } from "./engine_main.ts";
import { buildApp } from "./http/app.ts";
import { checkListen, readTokens } from "./http/auth.ts";
import { LogStreams } from "./http/log_streams.ts";
import { Metrics } from "./http/metrics.ts";
import type { App } from "./http/parts.ts";
import { Replays } from "./http/replays.ts";
import { ClientProcesses } from "./mirror/client_processes.ts";
import { openTarget } from "./replay_targets.ts";
import { ThreadedEventReader } from "./sqlite/event_reader.ts";
import { ThreadedTree } from "./sqlite/threaded_tree.ts";
import type { TreeData } from "./tree_main.ts";
import { VERSION } from "./version.ts";

const USAGE = `usage: npm start [-- --rebuild]
  --rebuild   make the state again from the log
Everything else is set by environment variables: see the README.`;

/** How long a stop waits for requests that are under way. */
const STOP_MS = 10_000;
/** Who may use the unix socket: its owner and group. */
const SOCKET_MODE = 0o660;

const settings = settingsOrExit();
const rebuild = argumentsOrExit();
const logger = pino({ level: settings.logLevel });
const RECOVERING = "the state is being recovered";
let notReady: string | null = RECOVERING;
/** How far the recovery is, as in ": 12 of 40 kernel maps". */
let howFar = "";
/** Why kernel maps do not follow; null: they do. */
let mirrorOff: string | null = null;

try {
  await start();
} catch (error) {
  logger.fatal({ err: error }, "the service cannot start");
  await new Promise((resolve) => logger.flush(resolve));
  process.exit(1);
}

/** Listens first: while the engine recovers, /livez says that the service lives and /readyz what it waits for. */
async function start(): Promise<void> {
  checkListen(settings);
  const authenticate = settings.tokens === "" ? null : readTokens(settings.tokens);
  const metrics = new Metrics();
  const started = performance.now();
  const worker = thread("engine_main.ts", { settings, rebuild } satisfies EngineData);
  const recovered = engineReady(worker);
  // Awaited below; whatever fails before that is told first.
  recovered.catch(() => {});
  const limits = { commandsMax: settings.queueCommandsMax, bytesMax: settings.queueBytesMax };
  const engine = new EngineClient(worker, limits, (figures) => metrics.batch(figures));
  const { data, origin } = settings;
  const events = new ThreadedEventReader(() => needed(thread("reader_main.ts", { data })));
  const streams = new LogStreams(settings.streamsMax);
  const past = new PastClient(() => thread("past_main.ts", { data }));
  worker.on("message", (message: FromEngine) => {
    if (message.kind === "past") answerPast(past, worker, message);
    if (message.kind === "mirror") mirrorTurned(message.off);
  });
  const tree = new ThreadedTree(
    () => needed(thread("tree_main.ts", { data, origin } satisfies TreeData)),
    (message) => logger.error(message),
  );
  const archiver = new ThreadedArchiver({ ...settings, directory: settings.archive, engine, past, tree });
  const parts = {
    engine,
    archiver,
    events,
    past,
    tree,
    settings,
    metrics,
    replays: new Replays(openTarget),
    streams,
    processes: null,
    ready: () => (notReady === RECOVERING ? RECOVERING + howFar : notReady),
    mirrorOff: () => mirrorOff,
    authenticate,
    version: VERSION,
    logger,
  };
  const apps = [await buildApp(parts)];
  if (settings.socket !== "") apps.push(await buildApp({ ...parts, processes: new ClientProcesses() }));

  const stop = once(async (why: string) => {
    const wasReady = notReady === null;
    notReady = "the service is stopping";
    logger.info({ waiting: engine.waiting }, `stopping: ${why}`);
    setTimeout(() => process.exit(1), STOP_MS).unref();
    await Promise.all(apps.map((app) => app.close()));
    if (settings.socket !== "") rmSync(settings.socket, { force: true });
    // A recovery that is broken off is begun anew at the next start.
    if (!wasReady) process.exit(0);
    await archiver.close();
    await engine.close();
    await Promise.all([events.close(), past.close(), tree.close()]);
    logger.info("stopped");
  });
  process.on("SIGINT", () => stop("SIGINT"));
  process.on("SIGTERM", () => stop("SIGTERM"));

  const url = await (apps[0] as App).listen({ host: settings.host, port: settings.port });
  if (apps[1] !== undefined) await listenOnSocket(apps[1], settings.socket);
  const { seq, replayed, ...ready } = await recovered;
  mirrorOff = ready.mirrorOff;
  if (notReady !== RECOVERING) return;
  for (const thread of [events, past, tree]) thread.start();
  notReady = null;
  worker.on("exit", (code) => {
    if (notReady !== null) return;
    logger.fatal({ code }, "the engine's thread has ended");
    process.exit(1);
  });
  const mirror = mirrorOff === null ? "on" : `off: ${mirrorOff}`;
  const figures = { seq, replayed, ms: Math.round(performance.now() - started) };
  logger.info(
    { url, socket: settings.socket || undefined, data: settings.data, mirror, ...figures, version: VERSION },
    `mapledger serves ${url}, data in ${settings.data}, kernel mirror ${mirror}`,
  );
}

/** Waits until the engine has recovered; from then on its reports go to the log lines. */
function engineReady(worker: Worker): Promise<FromEngine & { kind: "ready" }> {
  return new Promise((resolve, reject) => {
    worker.once("error", reject);
    worker.on("message", (message: FromEngine) => {
      if (message.kind === "ready") resolve(message);
      if (message.kind === "progress") {
        howFar = `: ${message.done} of ${message.total} ${message.what}`;
        logger.info(message, `recovering${howFar}`);
      }
      if (message.kind === "report") logger.error({ detail: message.error }, message.message);
      if (message.kind === "notice") logger.warn(message.message);
    });
  });
}

/** The engine asks what kernel maps lack that have not followed for long; perhaps before it has recovered. */
function answerPast(past: PastClient, engine: Worker, { id, ask }: FromEngine & { kind: "past" }): void {
  const tell = (answer: unknown, error: string | null): void =>
    engine.postMessage({ kind: "past", id, answer, error } satisfies ToEngine);
  past.start();
  past.ask(ask.name, ask.ask as never).then(
    (answer) => tell(answer, null),
    // What is archived is not known: nothing is taken for the ledger's own then.
    (error) => (error instanceof EventsArchived ? tell(null, null) : tell(null, (error as Error).message)),
  );
}

function mirrorTurned(off: string | null): void {
  mirrorOff = off;
  if (off === null) logger.info("the kernel mirror is on");
  else logger.warn({ detail: off }, "the kernel mirror is off");
}

function thread(file: string, workerData: unknown): Worker {
  return new Worker(new URL(file, import.meta.url), { workerData });
}

/** Without this thread the service cannot be. */
function needed(worker: Worker): Worker {
  return worker.on("error", (error) => {
    logger.fatal({ err: error }, "a thread has failed");
    process.exit(1);
  });
}

/** A socket that a dead process left is removed; one that is served is not. */
async function listenOnSocket(app: App, path: string): Promise<void> {
  if (await isServed(path)) throw new Error(`MAPLEDGER_SOCKET is ${path}: another process serves it`);
  rmSync(path, { force: true });
  await app.listen({ path });
  chmodSync(path, SOCKET_MODE);
}

function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.unref();
  });
}

function settingsOrExit(): Settings {
  try {
    return readSettings(process.env);
  } catch (error) {
    return exit((error as Error).message);
  }
}

function argumentsOrExit(): boolean {
  const given = process.argv.slice(2);
  if (given.length === 0) return false;
  return given.length === 1 && given[0] === "--rebuild" ? true : exit(USAGE);
}

function exit(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(2);
}

function once(run: (why: string) => Promise<void>): (why: string) => void {
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
