import { request } from "node:http";

/** The address of a service, and the bearer token for it. */
export interface Service {
  /** http:, https:, or `unix:` and the path of a socket. */
  readonly url: string;
  readonly token: string | undefined;
}

/** A response with its JSON; for an error, the JSON is the problem document. */
export interface Answer {
  readonly status: number;
  readonly json: Readonly<Record<string, unknown>>;
}

interface Reply {
  readonly status: number;
  readonly text: string;
}

interface Sent {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | undefined;
}

const UNIX = "unix:";

/** Sends one request. Throws an Error if there is no response, or none with JSON. */
export async function ask({ url, token }: Service, method: string, path: string, body?: object): Promise<Answer> {
  const headers = {
    ...(token !== undefined && { authorization: `Bearer ${token}` }),
    ...(body !== undefined && { "content-type": "application/json" }),
  };
  const sent = { method, path, headers, body: body === undefined ? undefined : JSON.stringify(body) };
  const reply = await (url.startsWith(UNIX) ? overSocket(url.slice(UNIX.length), sent) : overTcp(url, sent)).catch(
    (error: Error) => {
      throw new Error(`${url}: ${(error.cause as Error | undefined)?.message ?? error.message}`);
    },
  );
  try {
    return { status: reply.status, json: JSON.parse(reply.text) as Answer["json"] };
  } catch {
    throw new Error(`${url}: ${method} ${path} was answered ${reply.status} without JSON`);
  }
}

async function overTcp(url: string, { method, path, headers, body }: Sent): Promise<Reply> {
  const response = await fetch(new URL(path, url), { method, headers, ...(body !== undefined && { body }) });
  return { status: response.status, text: await response.text() };
}

function overSocket(socketPath: string, { method, path, headers, body }: Sent): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const length = body === undefined ? {} : { "content-length": String(Buffer.byteLength(body)) };
    const sending = request({ socketPath, method, path, headers: { ...headers, ...length } }, (response) => {
      const pieces: Buffer[] = [];
      response.on("data", (piece: Buffer) => pieces.push(piece));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(pieces).toString() }));
      response.on("error", reject);
    });
    sending.on("error", reject).end(body);
  });
}
