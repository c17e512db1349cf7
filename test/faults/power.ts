import type { Test } from "tap";
import { ask } from "../support/api.ts";
import { Disk, type Rule } from "../support/disk.ts";
import { random, SEED } from "../support/seed.ts";
import { startService } from "../support/service_process.ts";

const CLIENTS = 4;
const KEYS = 64;
/** What dies in the middle of a call: the log, what follows it, and what is written at a checkpoint. */
const WHERE: readonly Pick<Rule, "op" | "file">[] = [
  { op: "write", file: "events.sqlite-wal" },
  { op: "sync", file: "events.sqlite-wal" },
  { op: "write", file: "events.sqlite" },
  { op: "sync", file: "events.sqlite" },
  { op: "write", file: "tree.sqlite-wal" },
  { op: "sync", file: "tree.sqlite-wal" },
  { op: "write", file: "state/data.mdb" },
  { op: "write", file: ".sst" },
  { op: "sync", file: ".sst" },
  { op: "write", file: "history/manifest.json.partial" },
  { op: "sync", file: "history/manifest.json.partial" },
  { op: "write", file: "index/manifest.json.partial" },
];
const SKIP_MAX = 60;

interface Written {
  readonly key: number;
  readonly value: string;
  readonly seq: number;
}

/**
 * Rounds of writes under which the machine goes down: the process dies in the middle of a call, and the disk has what was synced. What was
 * answered is there, once; what was handed out of the tree is what the tree has.
 */
export async function losePower(t: Test, rounds: number): Promise<void> {
  t.comment(`SEED=${SEED}`);
  const roll = random(SEED);
  const disk = new Disk(t, { keeps: true });
  const environment = { ...disk.environment, MAPLEDGER_CHECKPOINT_SECONDS: "3600" };
  const handedOut: string[] = [];
  const newest = new Map<number, Written>();
  for (let round = 0; round <= rounds; round++) {
    disk.fail();
    const service = await startService(environment);
    const { url } = service;
    if (round === 0) await prepare(url);
    await compare(t, url, round, newest);
    await proves(t, url, round, handedOut);
    if (round === rounds) {
      t.equal(await service.end("SIGTERM"), 0);
      break;
    }
    const exited = new Promise((resolve) => service.child.once("exit", resolve));
    const { op, file } = WHERE[roll(WHERE.length)] as (typeof WHERE)[number];
    disk.fail({ op, file, action: "kill", skip: roll(SKIP_MAX) });
    const isOver = { now: false };
    const clients = Array.from({ length: CLIENTS }, (_, client) => write(url, client, roll, newest, isOver));
    const asking = askOn(url, handedOut, isOver);
    const killed = setTimeout(() => service.child.kill("SIGKILL"), KILL_MS);
    await exited;
    clearTimeout(killed);
    isOver.now = true;
    await Promise.all([...clients, asking]);
    disk.losePower();
  }
}

/** A call that does not come is not waited for. */
const KILL_MS = 2000;

async function prepare(url: string): Promise<void> {
  await ask(url, "POST", "/v1/sessions", {});
  await ask(url, "POST", "/v1/sessions/1/maps", {
    map_type: "BPF_MAP_TYPE_HASH",
    key_size: 4,
    value_size: 8,
    max_entries: 1000,
  });
  await ask(url, "POST", "/v1/sessions/1/fds/3/pin", { pathname: "/sys/fs/bpf/m" });
}

const hex = (number: number, bytes: number): string => number.toString(16).padStart(2 * bytes, "0");

/** Each client has keys of its own: what it was answered last is what is there. */
async function write(
  url: string,
  client: number,
  roll: (below: number) => number,
  newest: Map<number, Written>,
  isOver: { readonly now: boolean },
): Promise<void> {
  for (let at = 0; !isOver.now; at++) {
    const key = client * KEYS + (at % KEYS);
    const value = hex(roll(2 ** 31), 8);
    const { status, body } = await ask(url, "PUT", `/v1/maps/1/elements/${hex(key, 4)}`, { value });
    if (status === 200) newest.set(key, { key, value, seq: body.seq });
    // Nobody knows what has become of it: it is asked for when the service is there again.
    else newest.set(key, { key, value: "unknown", seq: 0 });
    if (status === 0) return;
  }
}

/** Has checkpoints signed, and history and index come along. */
async function askOn(url: string, handedOut: string[], isOver: { readonly now: boolean }): Promise<void> {
  while (!isOver.now) {
    const { status, text } = await ask(url, "GET", "/checkpoint");
    if (status === 200) handedOut.push(text);
    await ask(url, "GET", "/v1/maps/1/elements/00000000?at=3");
    await ask(url, "GET", "/v1/events?map=1&before=1000000&limit=1");
  }
}

async function compare(t: Test, url: string, round: number, newest: ReadonlyMap<number, Written>): Promise<void> {
  const { body, text } = await ask(url, "GET", "/v1/maps/1/elements?limit=1000");
  if (body?.elements === undefined) throw new Error(text);
  const found = new Map(body.elements.map(({ key, value }: { key: string; value: string }) => [key, value]));
  const lost = [...newest.values()].filter(({ key, value }) => value !== "unknown" && found.get(hex(key, 4)) !== value);
  t.same(lost.slice(0, 3), [], `round ${round}: ${newest.size} elements are what was answered`);
  const { last } = await logOf(url);
  t.ok(
    [...newest.values()].every(({ seq }) => seq <= last),
    `round ${round}: the log has what was answered`,
  );
}

async function logOf(url: string): Promise<{ readonly last: number }> {
  const response = await fetch(`${url}/v1/events`, { headers: { accept: "application/x-ndjson" } });
  const seqs = (await response.text())
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line).seq as number);
  const gap = seqs.findIndex((seq, at) => seq !== at + 1);
  if (gap !== -1) throw new Error(`the log has ${seqs[gap]} in place of ${gap + 1}`);
  return { last: seqs.length };
}

/** The tree goes on from the newest checkpoint that anybody has. */
async function proves(t: Test, url: string, round: number, handedOut: readonly string[]): Promise<void> {
  const { status, text } = await ask(url, "GET", "/checkpoint");
  t.equal(status, 200, `round ${round}: a checkpoint is signed: ${status === 200 ? "" : text}`);
  const sizeOf = (note: string): number => Number(note.split("\n")[1]);
  const known = handedOut.map(sizeOf);
  t.ok(
    known.every((size) => size <= sizeOf(text)),
    `round ${round}: none that was handed out is beyond it`,
  );
}
