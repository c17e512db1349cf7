import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { probe } from "../../src/native/probe.ts";
import { type Packets, RECEIVER, type Received, SENDER, SOURCES } from "./addresses.ts";
import { ip } from "./asked.ts";

/** Programs that the example runs, and the packages that have them. */
const NEEDED = { ip: "iproute2", unshare: "util-linux", curl: "curl" } as const;
const LOST_MS = 10_000;

/** Why the example cannot run here, found out by doing what it needs; null where it can. */
export function unfitForExample(): string | null {
  for (const [name, debian] of Object.entries(NEEDED))
    if (spawnSync(name, ["--help"]).error !== undefined)
      return `there is no ${name} here; it is ${debian}'s: apt-get install ${debian}`;
  const refused = probe();
  if (refused !== null) return refused;
  const veth = ["ip", "link", "add", "name", "in0", "type", "veth", "peer", "name", "out0"];
  const { status, stderr } = spawnSync("unshare", ["--net", ...veth], { encoding: "utf8" });
  return status === 0 ? null : `a veth pair in a network namespace cannot be made: ${stderr.trim()}`;
}

/** What became of the packets of a while. */
export interface Flow {
  readonly sent: Packets;
  readonly arrived: Packets;
  readonly passed: number;
  readonly dropped: number;
}

/**
 * A veth pair, each end in a network namespace that has no name and lives as long as the process in it: nothing is left
 * behind, however the example ends.
 */
export class Network {
  readonly #receiver = new End("receiver.ts");
  readonly #sender = new End("sender.ts");

  /** With the program on the trie that is pinned there. */
  async open(pinned: string): Promise<void> {
    await Promise.all([this.#receiver.up, this.#sender.up]);
    const one = ["name", RECEIVER.interface, "address", RECEIVER.mac, "netns", String(this.#receiver.pid)];
    const other = ["name", SENDER.interface, "address", SENDER.mac, "netns", String(this.#sender.pid)];
    ip("link", "add", ...one, "type", "veth", "peer", ...other);
    await this.#receiver.ask("open", pinned);
    await this.#sender.ask("open");
  }

  received(): Promise<Received> {
    return this.#receiver.ask("received") as Promise<Received>;
  }

  /** Lets packets flow meanwhile, and waits until what has become of each of them is known. */
  async flow(meanwhile: () => Promise<void>): Promise<Flow> {
    const before = await this.received();
    await this.#sender.ask("start");
    await meanwhile();
    const sent = (await this.#sender.ask("halt")) as Packets;
    const deadline = performance.now() + LOST_MS;
    for (;;) {
      const flow = { sent, ...since(before, await this.received()) };
      if (flow.passed + flow.dropped === total(sent) && total(flow.arrived) === flow.passed) return flow;
      if (performance.now() > deadline) throw new Error(`counting packets: ${JSON.stringify(flow)}`);
      await sleep(10);
    }
  }

  close(): void {
    this.#receiver.close();
    this.#sender.close();
  }
}

/** A process in a network namespace of its own. */
class End {
  readonly up: Promise<unknown>;
  readonly #child: ChildProcess;
  #settle: { resolve(answer: unknown): void; reject(error: Error): void } | null = null;

  constructor(file: string) {
    const path = new URL(file, import.meta.url).pathname;
    this.#child = spawn("unshare", ["--net", process.execPath, path], {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.#child.on("message", ({ answer, error }: { answer?: unknown; error?: string }) => {
      if (error === undefined) this.#settle?.resolve(answer);
      else this.#settle?.reject(new Error(`${file}: ${error}`));
    });
    this.#child.on("exit", () => this.#settle?.reject(new Error(`${file} has ended`)));
    this.up = this.#answer();
    // Whoever waits for it is told.
    this.up.catch(() => {});
  }

  /** unshare becomes the process that it starts. */
  get pid(): number {
    return this.#child.pid as number;
  }

  ask(ask: string, argument = ""): Promise<unknown> {
    const answer = this.#answer();
    this.#child.send({ ask, argument });
    return answer;
  }

  close(): void {
    this.#child.kill("SIGKILL");
  }

  #answer(): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
  }
}

function since(before: Received, now: Received): Omit<Flow, "sent"> {
  const arrived = Object.fromEntries(
    SOURCES.map((source) => [source, (now.arrived[source] ?? 0) - (before.arrived[source] ?? 0)]),
  );
  return { arrived, passed: now.passed - before.passed, dropped: now.dropped - before.dropped };
}

function total(packets: Packets): number {
  return Object.values(packets).reduce((sum, count) => sum + count, 0);
}
