/** Calls as requests of mapledger's API, and responses as answers. */

import type { Answer, Outputs } from "./answer.ts";
import { AnswerFields, noMapledger } from "./answer_fields.ts";
import type { Body, Call, ElementCall, MemoryCall, PageCall, View } from "./call.ts";
import type { Id } from "./ids.ts";
import { TargetFailed } from "./target.ts";
import { isToken } from "./tokens.ts";

export interface HttpRequest {
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  /** Path and query, percent-encoded. */
  readonly path: string;
  /** A JSON text or bytes; null: no body. */
  readonly body: string | Buffer | null;
  readonly headers: Readonly<Record<string, string>>;
  /** Count the bytes and lines of a successful response's body and do not keep them: it may be larger than memory. */
  readonly counted?: true;
}

export interface HttpResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: Buffer;
  /** The size of a body that was counted and not kept. */
  readonly counted?: { readonly bytes: number; readonly lines: number };
  /** The body was longer than this many bytes, and was not kept. */
  readonly longerThan?: number;
}

const JSON_TYPE = "application/json";
const NDJSON = "application/x-ndjson";
const OCTETS = "application/octet-stream";

export function httpRequest(call: Call): HttpRequest {
  switch (call.kind) {
    case "bpf":
      return json("POST", `${session(call.session)}/bpf`, call.body);
    case "create":
      return json("POST", `${session(call.session)}/maps`, call.body);
    case "open session":
      return json("POST", "/v1/sessions", call.body);
    case "renew":
      return json("POST", `${session(call.session)}/renew`, call.body);
    case "end session":
      return bare("DELETE", session(call.session));
    case "open":
      return json("POST", `${session(call.session)}/fds`, call.body);
    case "close":
      return bare("DELETE", `${session(call.session)}/fds/${call.fd}`);
    case "unlink":
      return bare("DELETE", `/v1/pins/${part(call.body.pathname)}`);
    case "mkdir":
      return bare("PUT", `/v1/directories/${part(call.body.pathname)}`);
    case "rmdir":
      return bare("DELETE", `/v1/directories/${part(call.body.pathname)}`);
    case "pin":
      return json("POST", `${below(call.view)}/pin`, call.body);
    case "freeze":
      return bare("POST", `${below(call.view)}/freeze`);
    case "batch":
      return json("POST", `${below(call.view)}/batch/${call.name}`, call.body);
    case "elements":
      return pageRequest(call);
    case "read memory":
    case "write memory":
      return memoryRequest(call);
    case "lookup":
    case "update":
    case "delete":
    case "next key":
    case "take":
      return elementRequest(call);
  }
}

function elementRequest({ kind, view, key, value, flags }: ElementCall): HttpRequest {
  const at = key === null ? below(view) : `${below(view)}/elements/${key}`;
  switch (kind) {
    case "lookup":
      return key === null ? json("POST", `${at}/peek`, value === null ? {} : { value }) : bare("GET", at);
    case "update":
      return key === null ? json("POST", `${at}/push`, { value, flags }) : json("PUT", at, { value, flags });
    case "delete":
      return bare("DELETE", at);
    case "take":
      return bare("POST", `${at}/pop`);
    case "next key":
      return bare("GET", `${below(view)}/next-key${key === null ? "" : `?key=${key}`}`);
  }
}

function pageRequest({ view, after, limit }: PageCall): HttpRequest {
  const query = new URLSearchParams();
  if (after !== null) query.set("after", after);
  if (limit !== null) query.set("limit", String(limit));
  const text = query.size === 0 ? "" : `?${query}`;
  const path = `${below(view)}/elements${text}`;
  return limit === null ? { ...bare("GET", path), headers: { accept: NDJSON }, counted: true } : bare("GET", path);
}

function memoryRequest({ kind, view, offset, length, value }: MemoryCall): HttpRequest {
  const path = `${below(view)}/memory`;
  const last = offset + length - 1;
  if (kind === "write memory") {
    const headers = { "content-type": OCTETS, "content-range": `bytes ${offset}-${last}/*` };
    return {
      method: "PUT",
      path,
      body: value ?? Buffer.alloc(0),
      headers: offset === 0 ? { "content-type": OCTETS } : headers,
    };
  }
  const range = offset < 0 ? `bytes=-${-offset}` : `bytes=${offset}-${last}`;
  return { ...bare("GET", path), headers: last < 0 && offset >= 0 ? {} : { range }, counted: true };
}

/** The answer in a response. Throws TargetFailed if the response shows that the target takes no more commands. */
export function httpAnswer(call: Call, response: HttpResponse): Answer {
  const { status, headers } = response;
  const seq = headers["mapledger-seq"] === undefined ? {} : { seq: Number(headers["mapledger-seq"]) };
  if (status < 300) return { ...seq, ...goodAnswer(call, response) };
  const problem = problemOf(response);
  if (status === 416) return { ...seq, ret: -1, errno: "EINVAL", outputs: {} };
  if (problem.errno !== undefined)
    return { ...seq, ret: -1, errno: problem.errno, outputs: refusedOutputs(call, problem) };
  const why = (problem.detail ?? problem.title ?? "").slice(0, WHY_CHARACTERS_MAX);
  const told = why === "" ? String(status) : `${status} ${why}`;
  if (ENDS.has(status) || status >= 500) throw new TargetFailed(`the target answers ${told}`);
  return { ret: -1, errno: null, outputs: {}, refused: told };
}

/** Statuses that every further command would get, too. */
const ENDS: ReadonlySet<number> = new Set([401, 408, 421, 429]);
const WHY_CHARACTERS_MAX = 500;

interface ProblemJson {
  readonly title?: string;
  readonly detail?: string;
  readonly errno?: string;
  readonly count?: number;
}

/** The fields of a mapledger problem document; {} for any other response. */
function problemOf({ body, headers }: HttpResponse): ProblemJson {
  if (headers["content-type"]?.includes("problem+json") !== true) return {};
  const problem = AnswerFields.read(body);
  return {
    ...(problem.has("title") && { title: problem.text("title") }),
    ...(problem.has("detail") && { detail: problem.text("detail") }),
    ...(problem.has("errno") && { errno: problem.text("errno") }),
    ...(problem.has("count") && { count: problem.integer("count") }),
  };
}

/**
 * The outputs of a refused request. A problem of an update or delete batch has `count` if elements were done before;
 * without it, none were.
 */
function refusedOutputs(call: Call, { count = 0 }: ProblemJson): Outputs {
  return call.kind === "batch" && !call.name.startsWith("lookup") ? { count } : {};
}

function goodAnswer(call: Call, response: HttpResponse): Answer {
  const done = { ret: 0, errno: null, outputs: {} };
  if (call.kind === "read memory") return { ...done, outputs: { memory: memoryBytes(response) } };
  if (call.kind === "elements" && call.limit === null)
    return { ...done, outputs: { count: response.counted?.lines ?? countLines(response.body), more: false } };
  const answer = AnswerFields.read(response.body);
  switch (call.kind) {
    case "bpf": {
      const [ret, errno] = [answer.integer("ret"), answer.textOrNull("errno")];
      return { ret, errno, outputs: answer.outputs("attr"), seq: answer.integer("seq") };
    }
    case "create":
    case "open":
      return { ...done, ret: answer.integer("fd"), ...(answer.has("map_id") && { map: answer.integer("map_id") }) };
    case "open session":
      return { ...done, session: answer.integer("id") };
    case "close":
      return { ...done, outputs: { freed: answer.integers("freed") } };
    case "lookup":
      return { ...done, outputs: call.value === null ? { value: answer.text("value") } : {} };
    case "take":
      return { ...done, outputs: { value: answer.text("value") } };
    case "next key":
      return { ...done, outputs: { next_key: answer.text("next_key") } };
    case "batch":
      return call.name.startsWith("lookup")
        ? foundBatch(answer)
        : { ...done, outputs: { count: answer.integer("count") } };
    case "elements":
      return { ...done, outputs: { count: answer.list("elements").length, more: answer.textOrNull("next") !== null } };
    case "pin":
    case "mkdir":
    case "unlink":
    case "rmdir":
      return { ...done, outputs: { pathname: answer.text("pathname") } };
    default:
      return done;
  }
}

function foundBatch(answer: AnswerFields): Answer {
  const elements = answer.list("elements");
  const count = answer.integer("count");
  const position = answer.textOrNull("out_batch");
  const outputs = {
    keys: elements.map((element) => element.text("key")).join(""),
    values: elements.map((element) => element.text("value")).join(""),
    count,
    ...(position !== null && { out_batch: position }),
  };
  return answer.flag("end")
    ? { ret: -1, errno: "ENOENT", outputs }
    : { ret: 0, errno: null, outputs: count === 0 ? { count } : outputs };
}

function memoryBytes({ status, headers, body, counted }: HttpResponse): number {
  if (status !== 206) return counted?.bytes ?? body.length;
  const [, bytes] = /\/(\d{1,15})$/.exec(headers["content-range"] ?? "") ?? [];
  if (bytes === undefined) throw noMapledger();
  return Number(bytes);
}

function countLines(body: Buffer): number {
  let count = 0;
  for (let at = body.indexOf(10); at !== -1; at = body.indexOf(10, at + 1)) count++;
  return count;
}

function session(id: Id): string {
  return `/v1/sessions/${id}`;
}

function below(view: View): string {
  return "map" in view ? `/v1/maps/${part(view.map)}` : `${session(view.session)}/fds/${view.fd}`;
}

function part(text: unknown): string {
  return isToken(text) ? text : encodeURIComponent(String(text).toWellFormed());
}

function json(
  method: HttpRequest["method"],
  path: string,
  body: Body | Extract<Call, { kind: "bpf" }>["body"],
): HttpRequest {
  return { method, path, body: JSON.stringify(body), headers: { "content-type": JSON_TYPE } };
}

function bare(method: HttpRequest["method"], path: string): HttpRequest {
  return { method, path, body: null, headers: {} };
}
