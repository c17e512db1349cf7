/** The API of a service as the command line uses it: JSON, lines and messages, and refusals with their errno. */

import type { Service } from "./ask.ts";
import { ConnectionFailed, PlainConnection, type PlainRequest, type PlainResponse } from "./plain_connection.ts";

/** The most bytes of one JSON answer, and of one line of a stream. */
const WHOLE_BYTES_MAX = 256 * 1024 * 1024;
const LF = 10;
const NDJSON = "application/x-ndjson";
const EVENT_STREAM = "text/event-stream";

type Fields = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** A problem document (RFC 9457), as far as the command line shows it. */
export interface Problem {
  readonly title: string;
  readonly detail?: string;
  /** The errno's name, if a command was refused by one. */
  readonly errno?: string;
}

/** The service has refused a request. */
export class Refused extends Error {
  readonly status: number;
  readonly problem: Problem;

  constructor(status: number, problem: Problem) {
    super(problem.detail ?? problem.title);
    this.status = status;
    this.problem = problem;
  }
}

/** A message of a stream of server-sent events. */
interface Message {
  readonly event: string;
  readonly data: string;
}

/** A body's type is the caller's claim about the route: the API's document says what each answers. */
export class Api {
  readonly url: string;
  readonly #connection: PlainConnection;
  readonly #tell: (text: string) => void;

  /** `tell` is called with each request, and with the status of its answer. */
  constructor(service: Service, tell: (text: string) => void = () => {}) {
    this.url = service.url;
    this.#connection = new PlainConnection(service);
    this.#tell = tell;
  }

  /** Fields of the query that are null or undefined are left out. Throws Refused or ConnectionFailed. */
  get<Answer>(path: string, query: Fields = {}): Promise<Answer> {
    return this.#json({ method: "GET", path: withQuery(path, query) });
  }

  send<Answer>(method: "POST" | "PUT" | "DELETE", path: string, body?: object): Promise<Answer> {
    return this.#json({ method, path, ...(body !== undefined && { body }) });
  }

  /** An answer or a stream as NDJSON: the value of each line. */
  async *lines<Item>(path: string, query: Fields = {}): AsyncIterable<Item> {
    for await (const line of this.#texts(path, query, NDJSON)) if (line !== "") yield parsed(this.url, line) as Item;
  }

  /** A stream of server-sent events. */
  async *messages(path: string, query: Fields = {}): AsyncIterable<Message> {
    let event = "message";
    for await (const line of this.#texts(path, query, EVENT_STREAM)) {
      if (line.startsWith("event: ")) event = line.slice("event: ".length);
      else if (line.startsWith("data: ")) yield { event, data: line.slice("data: ".length) };
    }
  }

  close(): void {
    this.#connection.close();
  }

  async *#texts(path: string, query: Fields, accept: string): AsyncIterable<string> {
    const response = await this.#send({ method: "GET", path: withQuery(path, query), headers: { accept } });
    if (response.status >= 300) throw await this.#refusal(response);
    yield* linesIn(this.url, response.pieces);
  }

  async #send(request: PlainRequest): Promise<PlainResponse> {
    this.#tell(`${request.method} ${request.path}`);
    const response = await this.#connection.send(request);
    this.#tell(`${request.method} ${request.path} was answered ${response.status}`);
    return response;
  }

  async #json<Answer>(request: PlainRequest): Promise<Answer> {
    const response = await this.#send(request);
    if (response.status >= 300) throw await this.#refusal(response);
    return parsed(this.url, await this.#whole(response)) as Answer;
  }

  async #refusal(response: PlainResponse): Promise<Refused> {
    const { title, detail, errno } = parsed(this.url, await this.#whole(response)) as Partial<Problem>;
    return new Refused(response.status, {
      title: title ?? `the request was answered ${response.status}`,
      ...(detail !== undefined && { detail }),
      ...(errno !== undefined && { errno }),
    });
  }

  async #whole({ pieces }: PlainResponse): Promise<string> {
    const all: Buffer[] = [];
    let bytes = 0;
    for await (const piece of pieces) {
      bytes += piece.length;
      if (bytes > WHOLE_BYTES_MAX) throw tooLarge(this.url);
      all.push(piece);
    }
    return Buffer.concat(all).toString();
  }
}

async function* linesIn(url: string, pieces: AsyncIterable<Buffer>): AsyncIterable<string> {
  let begun: Buffer[] = [];
  let bytes = 0;
  for await (const piece of pieces) {
    let from = 0;
    for (let end = piece.indexOf(LF); end !== -1; end = piece.indexOf(LF, from)) {
      yield Buffer.concat([...begun, piece.subarray(from, end)]).toString();
      begun = [];
      bytes = 0;
      from = end + 1;
    }
    bytes += piece.length - from;
    if (bytes > WHOLE_BYTES_MAX) throw tooLarge(url);
    begun.push(piece.subarray(from));
  }
  if (bytes > 0) yield Buffer.concat(begun).toString();
}

function withQuery(path: string, query: Fields): string {
  const fields = Object.entries(query).flatMap(([name, value]) =>
    value === null || value === undefined ? [] : [`${name}=${encodeURIComponent(value)}`],
  );
  return fields.length === 0 ? path : `${path}?${fields.join("&")}`;
}

function parsed(url: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new ConnectionFailed(`${url}: its answer is not JSON: it is not a mapledger`);
  }
}

function tooLarge(url: string): ConnectionFailed {
  return new ConnectionFailed(`${url}: its answer has more than ${WHOLE_BYTES_MAX} bytes`);
}
