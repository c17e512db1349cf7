import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { prefixOf } from "./addresses.ts";

export function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Shows the command as one would type it, runs it, and answers what came back. Throws what the service refuses. */
// biome-ignore lint/suspicious/noExplicitAny: what comes back is as the route has it
export async function curl(method: string, url: string, body?: object): Promise<any> {
  const data = body === undefined ? [] : ["-H", "content-type: application/json", "-d", JSON.stringify(body)];
  const args = ["-sS", ...(method === "GET" ? [] : ["-X", method]), url, ...data];
  say(`   $ curl ${args.map(quoted).join(" ")}`);
  const { stdout } = await promisify(execFile)("curl", args);
  const answer = stdout === "" ? null : JSON.parse(stdout);
  if (typeof answer?.status === "number") throw new Error(`${method} ${url}: ${answer.status} ${answer.detail}`);
  return answer;
}

/** A line of GET /v1/maps/{map}/watch. */
interface Told {
  readonly event: string;
  readonly seq: number;
  readonly key?: string;
  readonly value?: string | null;
}

/** curl on a map's watch: what is told is shown, and adds up to the map. It goes on after the service was away. */
export class Watch {
  /** Values by prefix. */
  readonly elements = new Map<string, string>();
  readonly #url: string;
  #child: ChildProcess | null = null;
  #seq: number | null = null;

  constructor(map: string) {
    this.#url = `${map}/watch`;
  }

  open(): void {
    const url = this.#seq === null ? this.#url : `${this.#url}?after=${this.#seq}`;
    const args = ["-sN", "-H", "accept: application/x-ndjson", url];
    say(`   $ curl ${args.map(quoted).join(" ")} &`);
    this.#child = spawn("curl", args, { stdio: ["ignore", "pipe", "inherit"] });
    createInterface({ input: this.#child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
      this.#take(JSON.parse(line) as Told);
    });
  }

  close(): void {
    this.#child?.kill();
  }

  #take({ event, seq, key, value }: Told): void {
    this.#seq = seq;
    if (key === undefined || value === undefined) return;
    const prefix = prefixOf(key);
    if (value === null) this.elements.delete(prefix);
    else this.elements.set(prefix, value);
    say(`   watch: ${event} ${prefix}${value === null ? "" : ` ${value}`}`);
  }
}

function quoted(word: string): string {
  return /^[\w:/.=%-]+$/.test(word) ? word : `'${word}'`;
}
