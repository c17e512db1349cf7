import { Presets, SingleBar } from "cli-progress";
import { ownTokenFile, readOwnToken } from "../../src/data/own_access.ts";
import { OwnService } from "../service.ts";
import { GeoProgram } from "./program.ts";
import { dotted, prefixesOf, type Range, RangeList, readRanges, trieKey } from "./ranges.ts";

/**
 * Which country is an address given to? 334,373 ranges go as prefixes into a pinned LPM_TRIE; then the service, and where
 * it mirrors its maps a BPF program in the kernel, must give the same answers as the list itself.
 */
const URL_GIVEN = process.env.MAPLEDGER_URL ?? "http://127.0.0.1:8620";
/** Of the service that is there; of one of the example's own nobody needs one. */
const TOKEN_GIVEN = process.env.MAPLEDGER_TOKEN ?? (process.env.MAPLEDGER_URL === undefined ? ownToken() : null);
const PINNED = "/sys/fs/bpf/geo";
const PAIRS_A_REQUEST = 10_000;
const LOOKUPS = 4_000;
const LOOKUPS_AT_ONCE = 32;

interface MapView {
  readonly id: number;
  readonly entries: number;
  readonly mirror: { readonly state: string; readonly pinned?: string; readonly detail?: string };
}

const ranges = readRanges();
const list = new RangeList(ranges);
const prefixes = ranges.flatMap((range) => [...prefixesOf(range)]);
say(`${number(ranges.length)} ranges are ${number(prefixes.length)} prefixes`);

const service = (await answers(URL_GIVEN)) ? null : new OwnService("geo");
await service?.start();
const base = service?.url ?? URL_GIVEN;
const authorization: Record<string, string> =
  service === null && TOKEN_GIVEN !== null ? { authorization: `Bearer ${TOKEN_GIVEN}` } : {};
say(
  service === null
    ? `the service at ${base} is used`
    : `no service answers at ${URL_GIVEN}: one of its own is started, at ${base}`,
);
try {
  await run();
} finally {
  await service?.remove();
}

async function run(): Promise<void> {
  await request("DELETE", `/v1/pins/${encodeURIComponent(PINNED)}`).catch(() => {});
  const session = (await request("POST", "/v1/sessions", { name: "geo" })) as { id: number };
  const created = (await request("POST", `/v1/sessions/${session.id}/maps`, {
    map_type: "BPF_MAP_TYPE_LPM_TRIE",
    map_name: "geo",
    key_size: 8,
    value_size: 2,
    max_entries: prefixes.length,
    map_flags: ["BPF_F_NO_PREALLOC"],
  })) as { fd: number };
  const fd = `/v1/sessions/${session.id}/fds/${created.fd}`;
  await request("POST", `${fd}/pin`, { pathname: PINNED });
  await fill(fd);
  await request("DELETE", `/v1/sessions/${session.id}`);

  const map = `/v1/maps/${encodeURIComponent(`pinned:${PINNED}`)}`;
  const view = (await request("GET", map)) as MapView;
  say(`map ${view.id} has ${number(view.entries)} entries; its session has ended, its pin ${PINNED} holds it`);
  const addresses = sampleAddresses(ranges, LOOKUPS);
  await checkService(map, addresses);
  checkKernel(view, addresses);
}

async function fill(fd: string): Promise<void> {
  const bar = progress("loading");
  bar.start(prefixes.length, 0);
  const started = performance.now();
  for (let at = 0; at < prefixes.length; at += PAIRS_A_REQUEST) {
    const elements = prefixes.slice(at, at + PAIRS_A_REQUEST).map(({ address, bits, country }) => ({
      key: trieKey(address, bits),
      value: Buffer.from(country, "latin1").toString("hex"),
    }));
    await request("POST", `${fd}/batch/update`, { elements });
    bar.increment(elements.length);
  }
  bar.stop();
  const seconds = (performance.now() - started) / 1000;
  say(`${number(prefixes.length)} prefixes in ${seconds.toFixed(1)} s: ${number(prefixes.length / seconds)} a second`);
}

async function checkService(map: string, addresses: readonly number[]): Promise<void> {
  const bar = progress("looking up");
  bar.start(addresses.length, 0);
  const started = performance.now();
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let address = addresses[next++]; address !== undefined; address = addresses[next++]) {
      const response = await fetch(`${base}${map}/elements/${trieKey(address, 32)}`, { headers: authorization });
      const body = (await response.json()) as { value: string };
      if (!response.ok && response.status !== 404)
        throw new Error(`looking up ${dotted(address)}: ${JSON.stringify(body)}`);
      compare(address, response.ok ? Buffer.from(body.value, "hex").toString("latin1") : null, "the service");
      bar.increment();
    }
  };
  await Promise.all(Array.from({ length: LOOKUPS_AT_ONCE }, worker));
  bar.stop();
  const seconds = (performance.now() - started) / 1000;
  say(`the service gives the list's answer for ${number(addresses.length)} addresses, in ${seconds.toFixed(1)} s`);
}

function checkKernel({ mirror }: MapView, addresses: readonly number[]): void {
  if (mirror.state !== "on" || mirror.pinned === undefined) {
    say(
      `the kernel is not asked: the mirror is ${mirror.state}${mirror.detail === undefined ? "" : `, ${mirror.detail}`}`,
    );
    return;
  }
  const program = new GeoProgram(mirror.pinned);
  const started = performance.now();
  for (const address of addresses) compare(address, program.countryOf(address), "the BPF program");
  program.close();
  const each = ((performance.now() - started) * 1000) / addresses.length;
  say(`a BPF program on ${mirror.pinned} gives the same, ${each.toFixed(1)} us each`);
}

function compare(address: number, found: string | null, by: string): void {
  const listed = list.countryOf(address);
  if (found !== listed) throw new Error(`${dotted(address)}: the list says ${listed}, ${by} says ${found}`);
}

/** First and last addresses of ranges, their neighbours, and addresses from anywhere. */
function sampleAddresses(from: readonly Range[], count: number): number[] {
  const addresses: number[] = [];
  for (let at = 0; addresses.length < count; at++) {
    const { first, last } = from[(at * 7919) % from.length] as Range;
    addresses.push(
      first,
      last,
      Math.max(first - 1, 0),
      Math.min(last + 1, 2 ** 32 - 1),
      Math.imul(at, 0x9e3779b1) >>> 0,
    );
  }
  return addresses;
}

async function request(method: string, path: string, body?: object): Promise<unknown> {
  const type = body === undefined ? {} : { "content-type": "application/json" };
  const init = {
    method,
    headers: { ...authorization, ...type },
    body: body === undefined ? null : JSON.stringify(body),
  };
  const response = await fetch(`${base}${path}`, init);
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
  return text === "" ? null : JSON.parse(text);
}

/** Of the data directory that a service started here has. */
function ownToken(): string | null {
  return readOwnToken(ownTokenFile("data"));
}

async function answers(url: string): Promise<boolean> {
  try {
    return (await fetch(`${url}/readyz`)).ok;
  } catch {
    return false;
  }
}

function progress(what: string): SingleBar {
  const format = `${what} [{bar}] {percentage}% | {value}/{total} | {eta_formatted} left`;
  return new SingleBar(
    { format, stream: process.stderr, hideCursor: true, noTTYOutput: true, notTTYSchedule: 1000 },
    Presets.legacy,
  );
}

function number(count: number): string {
  return Math.round(count).toLocaleString("en");
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
