import { execFileSync } from "node:child_process";
import { appendFileSync } from "node:fs";
import { cpus } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { VERSION } from "../src/version.ts";
import { unfitForKernel } from "../test/support/bpffs.ts";
import { audit } from "./audit.ts";
import { batches } from "./batches.ts";
import { bareStart, COMMAND_LINE, emptyStart, killedStart, lookup, nodeMs } from "./cold_starts.ts";
import { cpu } from "./cpu.ts";
import { KEY_BYTES, key, requests, VALUE_BYTES, value } from "./elements.ts";
import { slowExport } from "./export.ts";
import { fairness } from "./fairness.ts";
import { crowd } from "./flight.ts";
import { followers } from "./followers.ts";
import { freshLoad } from "./fresh_load.ts";
import { hashTree, rebuild, verify } from "./history.ts";
import { holds } from "./holds.ts";
import { indexing } from "./index.ts";
import { load, post, postJson } from "./load.ts";
import { type MadeLog, makeLog } from "./log_maker.ts";
import { mirrorWork } from "./mirror_work.ts";
import { dump, historyPage, lookups, startPast } from "./past.ts";
import { peers } from "./peers.ts";
import { killProcesses } from "./processes.ts";
import { type Subject, startBenchService, startEcho } from "./service.ts";
import { sizes } from "./sizes.ts";
import { soak } from "./soak.ts";
import { stalls } from "./stalls.ts";
import { COMPARED_MAPS, type Stopped, stopped } from "./starts.ts";
import { median, spread } from "./statistics.ts";
import { tails } from "./tails.ts";
import { type Figure, type Target, targetText } from "./targets.ts";
import { threads } from "./threads.ts";
import { typedValues } from "./typed.ts";

/**
 * Measures the service as it is used, over HTTP, each command durably recorded, beside a bare Fastify route of the same
 * body. All subjects run in each round, one after the other; figures are medians over the rounds, ratios are taken
 * within a round. And what it does with a long log. Arguments say which parts of PARTS to measure: none, all of them.
 */
const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 5);
const SECONDS = Number(process.env.BENCH_SECONDS ?? 2);
/** Many short ones: what two services differ by is less than what a machine does in passing. */
const MIRROR_ROUNDS = { put: 12 * ROUNDS, batch: 3 * ROUNDS };
const MIRROR_SECONDS = 1;
/** What a service does behind its replies is done by then, and slows no other. */
const REST_MS = 300;
const CONNECTIONS = [1, 16, 64, 256];
const KEYS = 100_000;
const LOADED = 1_000_000;
/** Of the log that the rows about history share. */
const EVENTS = Number(process.env.BENCH_EVENTS ?? 5_000_000);
/** Of the log that the row about the index has. */
const INDEXED = Number(process.env.BENCH_EVENTS ?? 1_000_000);
/** Of each mirrored map that a start compares. */
const ELEMENTS = Number(process.env.BENCH_ELEMENTS ?? 1_000_000);
/** Of a map that is loaded with new keys, and of one that is exported. */
const LARGE_MAP = Number(process.env.BENCH_ELEMENTS ?? 5_000_000);
/** Of sessions, and of maps, that rest. */
const RESTING = Number(process.env.BENCH_ELEMENTS ?? 1_000_000);
const SOAK_MINUTES = Number(process.env.SOAK_MINUTES ?? 5);
/** Rows about what lasts run for so many times as long. */
const LONG = 5;
const TAILS = 30;
const COMMAND_LINE_ROUNDS = 10 * ROUNDS;
const VERSION_ASKED = [COMMAND_LINE, "--version"];
const RESULTS = new URL("results.jsonl", import.meta.url);

const samples = new Map<string, number[]>();
const targets = new Map<string, Target>();

function sample(name: string, figure: number): void {
  samples.set(name, [...(samples.get(name) ?? []), figure]);
}

function sampleAll(figures: readonly Figure[]): void {
  for (const { name, figure, target } of figures) {
    sample(name, figure);
    if (target !== undefined) targets.set(name, target);
  }
}

/** A session, and in it a hash with every key present. Answers the path of its descriptor. */
async function prepare({ url }: Subject, maxEntries: number, keys: number): Promise<string> {
  const created = await postJson(`${url}/v1/sessions`, { name: "bench", ttl_seconds: 86_400 });
  const map = { map_type: "BPF_MAP_TYPE_HASH", key_size: KEY_BYTES, value_size: VALUE_BYTES, max_entries: maxEntries };
  const { fd } = await postJson(`${url}/v1/sessions/${created.id}/maps`, map);
  const path = `/v1/sessions/${created.id}/fds/${fd}`;
  await post(`${url}${path}/batch/update`, bodies(0, keys, 10_000));
  return path;
}

/** `count` pairs, `size` a request. */
function bodies(first: number, count: number, size: number): string[] {
  return Array.from({ length: count / size }, (_, body) => {
    const elements = Array.from({ length: size }, (_, at) => ({ key: key(first + body * size + at), value }));
    return JSON.stringify({ elements });
  });
}

async function rounds(echo: Subject, services: Map<string, Subject>): Promise<void> {
  const paths = new Map<string, string>();
  for (const [name, service] of services) paths.set(name, await prepare(service, KEYS, KEYS));
  for (let round = 1; round <= ROUNDS; round++) {
    process.stderr.write(`round ${round} of ${ROUNDS}\n`);
    for (const method of ["PUT", "GET"] as const)
      for (const connections of CONNECTIONS) {
        const measure = async (name: string, subject: Subject, path: string): Promise<number> => {
          const { rate, p99Ms } = await load({
            url: subject.url,
            connections,
            seconds: SECONDS,
            requests: requests(path, method, KEYS),
          });
          sample(`${method} ${connections} ${name} /s`, rate);
          sample(`${method} ${connections} ${name} p99 ms`, p99Ms);
          return rate;
        };
        const ceiling = await measure("echo", echo, "");
        for (const [name, service] of services)
          sample(
            `${method} ${connections} ${name} ratio`,
            (await measure(name, service, paths.get(name) as string)) / ceiling,
          );
      }
    for (const size of [1000, 10_000])
      for (const connections of [1, 4])
        for (const [name, service] of services) {
          const url = `${service.url}${paths.get(name)}/batch/update`;
          // Each key twice.
          const seconds = await post(url, [...bodies(0, KEYS, size), ...bodies(0, KEYS, size)], connections);
          sample(`batch of ${size}, ${connections} at once, ${name} pairs/s`, (2 * KEYS) / seconds);
        }
  }
}

/** What the kernel maps cost: a service with them and one without, one right after the other, in turns. */
async function mirror(): Promise<void> {
  const why = unfitForKernel();
  if (why !== null) {
    process.stderr.write(`the mirror is not measured: ${why}\n`);
    return;
  }
  const services = [await startBenchService("off"), await startBenchService("required")] as const;
  const paths = [await prepare(services[0], KEYS, KEYS), await prepare(services[1], KEYS, KEYS)] as const;
  const pairs = [...bodies(0, KEYS, 1000), ...bodies(0, KEYS, 1000)];
  await inTurns("PUT 64 mirrored /s", MIRROR_ROUNDS.put, async (at) => {
    const asked = requests(paths[at], "PUT", KEYS).slice(0, 100);
    return (await load({ url: services[at].url, connections: 64, seconds: MIRROR_SECONDS, requests: asked })).rate;
  });
  await inTurns("batch of 1000 mirrored pairs/s", MIRROR_ROUNDS.batch, async (at) => {
    const url = `${services[at].url}${paths[at]}/batch/update`;
    return (2 * KEYS) / (await post(url, pairs, 1));
  });
  for (const service of services) await service.stop();
  await starts();
}

/** Nothing is served before kernel maps and ledger have been compared. */
async function starts(): Promise<void> {
  const known = new Map<string, Stopped>();
  for (const map of COMPARED_MAPS) {
    process.stderr.write(`writing ${ELEMENTS} elements to a map of type ${map}\n`);
    known.set(map, await stopped(map, ELEMENTS));
  }
  for (let round = 1; round <= ROUNDS; round++) {
    process.stderr.write(`starts, round ${round} of ${ROUNDS}\n`);
    for (const [map, { start }] of known) {
      const ms = await start();
      sampleAll([
        { name: `start, ${ELEMENTS} elements of ${map} compared ms`, figure: ms },
        {
          name: `start, elements of ${map} compared/s`,
          figure: (ELEMENTS / ms) * 1000,
          ...(map === "HASH" && { target: { least: 1_000_000 } }),
        },
      ]);
    }
  }
  for (const { remove } of known.values()) remove();
  for (let round = 1; round <= ROUNDS; round++) {
    process.stderr.write(`comparisons, round ${round} of ${ROUNDS}\n`);
    sampleAll(await mirrorWork(ELEMENTS));
  }
}

/** What a person waits for a start, beside node alone. The first of each writes node's compile cache. */
async function coldStarts(): Promise<void> {
  await emptyStart();
  for (let round = 1; round <= COMMAND_LINE_ROUNDS; round++) sampleAll(await emptyStart());
  process.stderr.write(`making a log of ${EVENTS} events\n`);
  const log = makeLog(EVENTS);
  for (let round = 0; round <= ROUNDS; round++) {
    process.stderr.write(`start after a kill, round ${round} of ${ROUNDS}\n`);
    const figures = await killedStart(log);
    if (round > 0) sampleAll(figures);
  }
  log.remove();
}

/** What a person waits for the command line. */
async function commandLine(): Promise<void> {
  nodeMs(VERSION_ASKED);
  for (let round = 1; round <= COMMAND_LINE_ROUNDS; round++) {
    const [bare, asked] = [bareStart(), nodeMs(VERSION_ASKED)];
    sample("mapledger --version ms", asked);
    sample("mapledger --version, of node -e 0", asked / bare);
  }
  sampleAll(await lookup(COMMAND_LINE_ROUNDS));
}

/** Which of two services comes first changes from round to round. */
async function inTurns(name: string, rounds: number, measure: (at: 0 | 1) => Promise<number>): Promise<void> {
  for (let round = 1; round <= rounds; round++) {
    process.stderr.write(`${name}, round ${round} of ${rounds}\n`);
    const figures: [number, number] = [0, 0];
    for (const at of round % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)) {
      await sleep(REST_MS);
      figures[at] = await measure(at);
    }
    const [off, mirrored] = figures;
    sample(name, mirrored);
    sample(`${name}, of without`, mirrored / off);
  }
}

/** A bulk load must not slow what comes after it. */
async function afterLoad(): Promise<void> {
  const service = await startBenchService("off");
  const path = await prepare(service, LOADED, LOADED);
  const { rate, p50Ms, p99Ms } = await load({
    url: service.url,
    connections: 1,
    seconds: SECONDS,
    requests: requests(path, "PUT", KEYS),
  });
  sample(`PUT 1 after a load of ${LOADED} /s`, rate);
  sample(`PUT 1 after a load of ${LOADED} p50 ms`, p50Ms);
  sample(`PUT 1 after a load of ${LOADED} p99 ms`, p99Ms);
  await service.stop();
}

async function throughput(): Promise<void> {
  const why = unfitForKernel();
  const echo = await startEcho();
  const services = new Map([["off", await startBenchService("off")]]);
  if (why === null) services.set("mirrored", await startBenchService("required"));
  else process.stderr.write(`the mirror is not measured: ${why}\n`);
  await rounds(echo, services);
  for (const subject of [echo, ...services.values()]) await subject.stop();
}

/** All rows share one log: who would add to it works on a copy. */
async function history(): Promise<void> {
  process.stderr.write(`making a log of ${EVENTS} events\n`);
  const log = makeLog(EVENTS);
  sample(`tree of ${EVENTS} events/s`, await hashTree(log));
  for (let round = 1; round <= ROUNDS; round++) {
    process.stderr.write(`history, round ${round} of ${ROUNDS}\n`);
    sample(`rebuild of ${EVENTS} events/s`, await rebuild(log));
  }
  for (let round = 1; round <= ROUNDS; round++) sample(`verify of ${EVENTS} events/s`, await verify(log));
  await past(log);
  log.remove();
}

/** What reads of the past cost, beside those of the present through the same route. */
async function past(log: MadeLog): Promise<void> {
  const subject = await startPast(log);
  sampleAll([
    { name: `history of ${EVENTS}, taken in, events/s`, figure: subject.historyRate, target: { least: 115_000 } },
    { name: "history, bytes an event, at most", figure: subject.historyBytes.most, target: { most: 120 } },
    { name: "history, bytes an event, made", figure: subject.historyBytes.made },
  ]);
  for (let round = 1; round <= ROUNDS; round++) {
    process.stderr.write(`past, round ${round} of ${ROUNDS}\n`);
    for (const connections of [1, 64]) {
      const now = await lookups(subject, connections, SECONDS, false);
      const then = await lookups(subject, connections, SECONDS, true);
      sample(`lookup ${connections} now /s`, now);
      sample(`lookup ${connections} as of /s`, then);
      sample(`lookup ${connections} as of, times as long`, now / then);
    }
    sample("dump now elements/s", await dump(subject, null));
    for (const part of [0.2, 0.6, 1]) sample(`dump as of ${part} of the log elements/s`, await dump(subject, part));
    sample("history page ms", await historyPage(subject, 100));
  }
  await subject.stop();
}

/** What reads of a long log take, and what others wait beside them. */
async function audited(): Promise<void> {
  process.stderr.write(`making a log of ${EVENTS} events\n`);
  const log = makeLog(EVENTS);
  const subject = await startPast(log);
  for (let round = 1; round <= ROUNDS; round++) {
    process.stderr.write(`audit, round ${round} of ${ROUNDS}\n`);
    sampleAll(await audit(subject));
  }
  await subject.stop();
  log.remove();
}

/** What one caller can take from others, and what the service takes of the machine. */
async function fair(): Promise<void> {
  for (let round = 1; round <= ROUNDS; round++) {
    process.stderr.write(`fairness, round ${round} of ${ROUNDS}\n`);
    sampleAll(await fairness(LONG * SECONDS));
  }
}

/** What sessions that live by a process take to end after it. */
async function processes(): Promise<void> {
  process.stderr.write("processes\n");
  for (const [when, times] of Object.entries(await killProcesses()))
    for (const ms of times) sample(`SIGKILL to SESSION_END, ${when}, ms`, ms);
}

/** What connections that send or take as little as they can cost in memory. */
async function flight(): Promise<void> {
  for (let round = 1; round <= ROUNDS; round++) {
    process.stderr.write(`flight, round ${round} of ${ROUNDS}\n`);
    const service = await startBenchService("off");
    const { before, most, after } = await crowd(service);
    sample("RssAnon before MiB", before);
    sample("RssAnon with 46 stalled connections, more, MiB", most - before);
    sample("RssAnon when they are gone, more, MiB", after - before);
    await service.stop();
  }
}

/** How long the service's thread is held by the worst input of each route. */
async function held(): Promise<void> {
  for (let round = 1; round <= ROUNDS; round++)
    for await (const { name, status, holdMs, requestMs } of holds()) {
      process.stderr.write(`${name}: ${status}, ${requestMs.toFixed(0)} ms, held ${holdMs.toFixed(0)} ms\n`);
      sample(`held by ${name}, ms`, holdMs);
    }
}

/** What another caller waits while somebody sends the worst input of each route. */
async function stalled(): Promise<void> {
  const mirror = unfitForKernel() === null ? "required" : "off";
  for await (const { row, without, meanwhile, statuses } of stalls(mirror, { rounds: ROUNDS, seconds: SECONDS })) {
    const more = meanwhile.p999 - without.p999;
    process.stderr.write(`${row}: ${JSON.stringify(statuses)}, p99.9 ${more.toFixed(0)} ms more\n`);
    sample(`waits beside ${row}, p99.9 more by ms`, more);
    sample(`waits beside ${row}, most ms`, meanwhile.most);
  }
}

/** What followers of a map cost those who write to it. */
async function followed(): Promise<void> {
  for (let round = 1; round <= ROUNDS; round++) {
    process.stderr.write(`followers, round ${round} of ${ROUNDS}\n`);
    sampleAll(await followers(SECONDS));
  }
}

/** What a request costs beside one that node:http answers alone. */
async function requestCosts(): Promise<void> {
  for await (const figures of cpu(ROUNDS, SECONDS)) sampleAll(figures);
}

/** What large batches reach, in each form. */
async function batchForms(): Promise<void> {
  for (let round = 1; round <= ROUNDS; round++) {
    process.stderr.write(`batches, round ${round} of ${ROUNDS}\n`);
    sampleAll(await batches(LONG * SECONDS, LARGE_MAP));
  }
}

/** What others wait while new elements are loaded, and the memory that the load takes. */
async function loaded(): Promise<void> {
  for (let round = 1; round <= ROUNDS; round++) {
    process.stderr.write(`load, round ${round} of ${ROUNDS}\n`);
    sampleAll(await freshLoad(LARGE_MAP));
  }
}

/** What an export with a slow reader costs. */
async function exported(): Promise<void> {
  for (let round = 1; round <= ROUNDS; round++) {
    process.stderr.write(`export, round ${round} of ${ROUNDS}\n`);
    sampleAll(await slowExport(LONG * SECONDS, LARGE_MAP));
  }
}

/** What the index takes to make, and the first question before it is made. */
async function index(): Promise<void> {
  process.stderr.write(`making a log of ${INDEXED} events\n`);
  const log = makeLog(INDEXED);
  for (let round = 1; round <= ROUNDS; round++) {
    process.stderr.write(`index, round ${round} of ${ROUNDS}\n`);
    sampleAll(await indexing(log));
  }
  log.remove();
}

/** What others reach that do the same work. */
async function besidePeers(): Promise<void> {
  for await (const figures of peers(ROUNDS, SECONDS)) sampleAll(figures);
}

/** What more HTTP threads reach. */
async function httpThreads(): Promise<void> {
  for await (const figures of threads(ROUNDS, SECONDS)) sampleAll(figures);
}

/** What the slowest requests take under a load that never rests. */
async function slowest(): Promise<void> {
  for (let round = 1; round <= ROUNDS; round++) {
    process.stderr.write(`tails, round ${round} of ${ROUNDS}\n`);
    sampleAll(await tails(TAILS * SECONDS));
  }
}

/** What many sessions and maps take at rest. */
async function resting(): Promise<void> {
  for (let round = 1; round <= ROUNDS; round++) {
    process.stderr.write(`sizes, round ${round} of ${ROUNDS}\n`);
    sampleAll(await sizes(RESTING));
  }
}

/** What a long time of mixed load leaves behind. */
async function soaked(): Promise<void> {
  process.stderr.write(`soak, ${SOAK_MINUTES} minutes\n`);
  sampleAll(await soak(SOAK_MINUTES));
}

async function typed(): Promise<void> {
  for (let round = 1; round <= ROUNDS; round++) sampleAll(typedValues());
}

const PARTS: Readonly<Record<string, () => Promise<void>>> = {
  throughput,
  mirror,
  afterLoad,
  history,
  index,
  processes,
  flight,
  held,
  stalls: stalled,
  start: coldStarts,
  commandLine,
  batches: batchForms,
  load: loaded,
  export: exported,
  followers: followed,
  cpu: requestCosts,
  threads: httpThreads,
  tails: slowest,
  sizes: resting,
  soak: soaked,
  audit: audited,
  fairness: fair,
  peers: besidePeers,
  typed,
};
const asked = process.argv.slice(2);
const strange = asked.find((part) => !Object.hasOwn(PARTS, part));
if (strange !== undefined) {
  process.stderr.write(`${strange}: the parts are ${Object.keys(PARTS).join(", ")}\n`);
  process.exit(2);
}
for (const [part, measure] of Object.entries(PARTS)) if (asked.length === 0 || asked.includes(part)) await measure();

const figures = Object.fromEntries([...samples].map(([name, all]) => [name, { median: median(all), ...spread(all) }]));
for (const [name, { median, least, most, lower, upper }] of Object.entries(figures)) {
  const target = targets.get(name);
  const sought = target === undefined ? "" : `  ${targetText(median, target)}`;
  process.stdout.write(
    `${name.padEnd(44)} ${round(median).padStart(10)}  (${round(least)} - ${round(most)}; half of them ${round(lower)} - ${round(upper)})${sought}\n`,
  );
}
const commit = execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8" }).trim();
const about = { time: new Date().toISOString(), commit, version: VERSION, node: process.version, cpus: cpus().length };
appendFileSync(RESULTS, `${JSON.stringify({ ...about, rounds: ROUNDS, seconds: SECONDS, figures })}\n`);

function round(figure: number): string {
  return figure >= 100 ? figure.toFixed(0) : figure.toFixed(2);
}
