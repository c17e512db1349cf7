import { Agent, request } from "node:http";
import { parentPort, workerData } from "node:worker_threads";

/** Sends requests in turns, one after the other, until it is told to stop; tells the status of each answer. */
export interface Attack {
  readonly url: string;
  readonly requests: readonly AttackRequest[];
}

interface AttackRequest {
  readonly method: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
}

const { url, requests } = workerData as Attack;
const agent = new Agent({ keepAlive: true, maxSockets: 1 });
let isTold = false;
parentPort?.once("message", () => {
  isTold = true;
});

/** The answer's status; 0: the connection broke. */
function send({ method, path, headers = {}, body }: AttackRequest): Promise<number> {
  return new Promise((resolve) => {
    const sent = request(`${url}${path}`, { method, agent, headers }, (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode ?? 0));
      response.on("error", () => resolve(0));
    });
    sent.on("error", () => resolve(0));
    sent.end(body);
  });
}

for (let at = 0; !isTold; at = (at + 1) % requests.length) {
  const one = requests[at];
  if (one !== undefined) parentPort?.postMessage(await send(one));
}
agent.destroy();
parentPort?.close();
