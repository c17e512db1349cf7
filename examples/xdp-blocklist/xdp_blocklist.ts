import { setTimeout as sleep } from "node:timers/promises";
import { OwnService } from "../service.ts";
import { keyOf, prefixOf, SOURCES } from "./addresses.ts";
import { curl, say, Watch } from "./curl.ts";
import { type Flow, Network, unfitForExample } from "./network.ts";

/**
 * Which packets get through? An XDP program on a veth pair drops them by a mirrored LPM_TRIE, while the trie is filled over
 * HTTP, watched, brought back to an earlier moment, and while the service is killed and started again. Every packet is
 * counted: what differs from what the blocklist says ends the example with 1.
 */
const PINNED = "/sys/fs/bpf/blocklist";
const BLOCK = "01000000";
const ALLOW = "00000000";
const FLOW_MS = 300;
const DOWN_MS = 700;
/** How long what is watched may take to arrive. */
const WATCHED_MS = 10_000;

/** The first of them is never blocked by itself. */
const [, SPAMMER, EXCEPTION, SCANNER] = SOURCES;

let service: OwnService | null = null;
let network: Network | null = null;
let watch: Watch | null = null;
let cleaned: Promise<void> | undefined;
let interrupted = false;
let steps = 0;

for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.once(signal, async () => {
    interrupted = true;
    await cleanUp();
    process.exit(130);
  });

const unfit = unfitForExample();
if (unfit !== null) fail(`the example cannot run here: ${unfit}`);
else
  try {
    await run();
  } catch (error) {
    if (!interrupted) fail((error as Error).message);
  } finally {
    await cleanUp();
  }

async function run(): Promise<void> {
  const own = new OwnService("xdp", { MAPLEDGER_MIRROR: "required" });
  service = own;
  await own.start();
  step(`a service of its own is at ${own.url}; an LPM_TRIE is made and pinned`);
  const session = (await curl("POST", `${own.url}/v1/sessions`, { name: "xdp-blocklist" })).id;
  const { fd } = await curl("POST", `${own.url}/v1/sessions/${session}/maps`, {
    map_type: "BPF_MAP_TYPE_LPM_TRIE",
    map_name: "blocklist",
    key_size: 8,
    value_size: 4,
    max_entries: 1024,
    map_flags: ["BPF_F_NO_PREALLOC"],
  });
  await curl("POST", `${own.url}/v1/sessions/${session}/fds/${fd}/pin`, { pathname: PINNED });
  const map = `${own.url}/v1/maps/name:blocklist`;
  const { mirror } = await curl("GET", map);
  watch = new Watch(map);
  watch.open();

  step("a veth pair in two network namespaces, an XDP program on the pinned trie at the receiving end");
  network = new Network();
  await network.open(`${own.bpffs}/blocklist`);
  await flows(network, []);

  step("two networks are blocked, but for one address: the longest prefix decides");
  await put(map, "198.51.100.0/24", BLOCK);
  await put(map, `${EXCEPTION}/32`, ALLOW);
  const { seq } = await put(map, "203.0.113.0/24", BLOCK);
  await flows(network, [SPAMMER, SCANNER]);

  step("somebody takes /0 for /24: nobody gets through");
  await put(map, "0.0.0.0/0", BLOCK);
  await curl("DELETE", element(map, `${EXCEPTION}/32`));
  await flows(network, SOURCES);

  step(`the trie is brought back to what it was at event ${seq}`);
  await curl("POST", `${map}/restore`, { at: seq, reason: "/0 was meant to be /24" });
  await flows(network, [SPAMMER, SCANNER]);

  step("the service is killed, and started again, while packets flow");
  await killed(own, network, [SPAMMER, SCANNER]);
  watch.open();
  const after = (await curl("GET", map)).mirror;
  if (after.kernel_id !== mirror.kernel_id) throw new Error("the kernel's map is another one after the restart");
  say(`   the kernel's map is ${after.kernel_id}, as before`);

  step("the program, which knows of none of this, sees what the new process writes");
  await curl("DELETE", element(map, "203.0.113.0/24"));
  await flows(network, [SPAMMER]);

  const { elements } = await curl("GET", `${map}/elements`);
  await watched(watch, elements);
  step("done: no packet of a blocked network got through, every other one did");
}

/** Kills the service in the middle of a flow; what is blocked stays blocked, and what is not gets through. */
async function killed(own: OwnService, through: Network, blocked: readonly string[]): Promise<void> {
  const flow = await through.flow(async () => {
    await sleep(FLOW_MS);
    await own.end("SIGKILL");
    const down = await through.received();
    say("   kill -9: nobody serves");
    await sleep(DOWN_MS);
    await own.start();
    const up = await through.received();
    const figures = `${up.passed - down.passed} packets passed, ${up.dropped - down.dropped} were dropped`;
    say(`   started again and ready; meanwhile ${figures}`);
    await sleep(FLOW_MS);
  });
  show(flow, blocked);
}

async function flows(through: Network, blocked: readonly string[]): Promise<void> {
  show(await through.flow(() => sleep(FLOW_MS)), blocked);
}

/** Throws where anything blocked has arrived, or anything else has not. */
function show({ sent, arrived, passed, dropped }: Flow, blocked: readonly string[]): void {
  say(`   from              sent  arrived     by XDP: ${passed} passed, ${dropped} dropped`);
  for (const source of SOURCES) {
    const [all = 0, some = 0] = [sent[source], arrived[source]];
    const isBlocked = blocked.includes(source);
    const line = `   ${source.padEnd(14)} ${String(all).padStart(7)} ${String(some).padStart(8)}`;
    say(isBlocked ? `${line}     blocked` : line);
    if (all === 0 || some !== (isBlocked ? 0 : all))
      throw new Error(`${some} of ${all} packets from ${source} arrived`);
  }
}

/** Waits until what was watched adds up to the map. */
async function watched(watching: Watch, elements: readonly { key: string; value: string }[]): Promise<void> {
  const now = sorted(elements.map(({ key, value }) => [prefixOf(key), value] as const));
  const deadline = performance.now() + WATCHED_MS;
  while (sorted(watching.elements) !== now) {
    if (performance.now() > deadline) throw new Error(`watched ${sorted(watching.elements)}, the map is ${now}`);
    await sleep(10);
  }
  say(`   what was watched adds up to it: ${now}`);
}

function sorted(elements: Iterable<readonly [prefix: string, value: string]>): string {
  return [...elements]
    .map(([prefix, value]) => `${prefix} ${value}`)
    .sort()
    .join(", ");
}

function put(map: string, prefix: string, value: string): Promise<{ seq: number }> {
  return curl("PUT", element(map, prefix), { value });
}

function element(map: string, prefix: string): string {
  return `${map}/elements/${keyOf(prefix)}`;
}

/** Once, however many ask for it. */
function cleanUp(): Promise<void> {
  watch?.close();
  network?.close();
  cleaned ??= service?.remove();
  return cleaned ?? Promise.resolve();
}

function step(what: string): void {
  say(`${++steps}. ${what}`);
}

function fail(why: string): void {
  process.stderr.write(`${why}\n`);
  process.exitCode = 1;
}
