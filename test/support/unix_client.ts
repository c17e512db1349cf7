import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { request } from "node:http";
import { createInterface } from "node:readline";

type Answer = Record<string, unknown> & { readonly status: number };

/** Asks a service over its unix socket. */
export function ask(socketPath: string, method: string, path: string, body?: object): Promise<Answer> {
  const headers = body === undefined ? {} : { "content-type": "application/json" };
  return new Promise((resolve, reject) => {
    request({ socketPath, path, method, headers, agent: false }, async (response) => {
      let text = "";
      for await (const chunk of response.setEncoding("utf8")) text += chunk;
      resolve({ ...JSON.parse(text), status: response.statusCode });
    })
      .once("error", reject)
      .end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** Opens a session, prints what it was answered, and lives on until its standard input ends. */
const OPENER = `
const { request } = require("node:http");
const [socketPath, body, uid] = process.argv.slice(1);
if (uid !== undefined) process.setuid(Number(uid));
const headers = { "content-type": "application/json" };
request({ socketPath, path: "/v1/sessions", method: "POST", headers, agent: false }, async (response) => {
  let text = "";
  for await (const chunk of response) text += chunk;
  process.stdout.write(text + "\\n");
}).end(body);
process.stdin.resume().once("end", () => process.exit(0));
`;

/** A client that is a process of its own. */
export interface Opener {
  readonly child: ChildProcess;
  /** What it was answered. */
  readonly answer: Record<string, unknown>;
}

/** `uid`: what it turns into before it connects. */
export async function opener(socket: string, body: object, uid?: number): Promise<Opener> {
  const args = ["-e", OPENER, socket, JSON.stringify(body), ...(uid === undefined ? [] : [String(uid)])];
  const child = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
  const [line] = await once(createInterface({ input: child.stdout }), "line");
  return { child, answer: JSON.parse(line) };
}

/** Ends a process and waits until it is no more; answers when it was told to, in milliseconds since the epoch. */
export async function kill(child: ChildProcess, signal: NodeJS.Signals = "SIGKILL"): Promise<number> {
  const exited = once(child, "exit");
  const at = Date.now();
  child.kill(signal);
  await exited;
  return at;
}
