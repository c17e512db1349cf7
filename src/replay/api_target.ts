import { BPF_MAP_TYPE } from "../abi/bpf.ts";
import type { Event } from "../log/event.ts";
import type { Answer } from "./answer.ts";
import { AnswerFields } from "./answer_fields.ts";
import type { Call, LeftOut } from "./call.ts";
import { type HttpRequest, type HttpResponse, httpAnswer, httpRequest } from "./http_call.ts";
import type { Id } from "./ids.ts";
import { HeldLeases } from "./session_keepalive.ts";
import { type Description, type Target, TargetFailed } from "./target.ts";

/** Sends requests in order. */
export interface Transport {
  send(request: HttpRequest): Promise<HttpResponse>;
}

/**
 * The most door commands sent without waiting for answers. More of them share a commit of the target; if the connection
 * is lost, the answers to all of them are lost.
 */
const WINDOW = 64;
const MS = 1000;

/** Another mapledger, replayed to by its API. */
export class ApiTarget implements Target {
  readonly answers = true;
  readonly window = WINDOW;
  readonly #transport: Transport;
  readonly #nowMs: () => number;
  readonly #leases = new HeldLeases();

  constructor(transport: Transport, nowMs = () => performance.now()) {
    this.#transport = transport;
    this.#nowMs = nowMs;
  }

  async send(call: Call, _event: Event, _recorded: Answer): Promise<Answer | LeftOut> {
    this.keepAlive();
    const response = await this.#transport.send(httpRequest(call));
    if (response.longerThan !== undefined)
      return { leftOut: `it was sent; its answer is longer than ${response.longerThan} bytes, and was not compared` };
    const answer = httpAnswer(call, response);
    this.#note(call, answer);
    return answer;
  }

  keepAlive(): number {
    for (const session of this.#leases.due(this.#nowMs())) {
      const renewal = this.#transport.send(httpRequest({ kind: "renew", session, body: {} }));
      // Renewals may fail: a session may have ended by itself, and a target that is gone fails the next command.
      renewal.catch(() => {});
    }
    return this.#leases.leftMs(this.#nowMs());
  }

  async describe(session: Id, fd: Id): Promise<Description> {
    const path = `/v1/sessions/${session}/fds/${fd}`;
    const { status, body } = await this.#transport.send({ method: "GET", path, body: null, headers: {} });
    if (status !== 200) throw new TargetFailed(`the target answers ${status} to GET ${path}`);
    const answer = AnswerFields.read(body);
    const object = answer.fields("descriptor").fieldsOrNull("object");
    const map = answer.has("map") ? answer.fields("map") : null;
    return {
      ...(object?.has("btf_id") && { btf: object.integer("btf_id") }),
      ...(object?.has("cgroup_id") && { cgroup: object.text("cgroup_id") }),
      ...(map !== null && { map: map.integer("id"), shape: shapeOf(map) }),
    };
  }

  #note(call: Call, answer: Answer): void {
    const now = this.#nowMs();
    const ttl = "body" in call ? (call.body as { readonly ttl_seconds?: number }).ttl_seconds : undefined;
    const ttlMs = ttl === undefined ? undefined : ttl * MS;
    if (call.kind === "open session") {
      if (answer.session !== undefined && ttlMs !== undefined) this.#leases.opened(answer.session, ttlMs, now);
    } else if (call.kind === "end session") this.#leases.ended(call.session);
    else if ("session" in call) this.#leases.used(call.session, now, call.kind === "renew" ? ttlMs : undefined);
    else if ("view" in call && "session" in call.view) this.#leases.used(call.view.session, now);
  }
}

function shapeOf(map: AnswerFields): Required<Description>["shape"] {
  const type = BPF_MAP_TYPE[map.text("map_type") as keyof typeof BPF_MAP_TYPE];
  return { type, keySize: map.integer("key_size"), valueSize: map.integer("value_size") };
}
