import type { Caller } from "../access/caller.ts";
import type { Callers } from "../access/callers.ts";
import type { Transport } from "../replay/api_target.ts";
import type { HttpRequest, HttpResponse } from "../replay/http_call.ts";
import type { App } from "./parts.ts";

/** Requests to the service itself, as the caller's whose request has them sent. */
export class OwnRequests implements Transport {
  readonly #app: App;
  readonly #callers: Callers;
  readonly #token: string;

  /** To be ended. */
  constructor(app: App, callers: Callers, caller: Caller) {
    this.#app = app;
    this.#callers = callers;
    this.#token = callers.lend(caller);
  }

  /** No more is sent. */
  end(): void {
    this.#callers.takeBack(this.#token);
  }

  async send({ method, path, body, headers }: HttpRequest): Promise<HttpResponse> {
    const payload = body === null ? {} : { payload: body };
    const response = await this.#app.inject({
      method,
      url: path,
      headers: { ...headers, authorization: `Bearer ${this.#token}` },
      ...payload,
    });
    return {
      status: response.statusCode,
      headers: Object.fromEntries(Object.entries(response.headers).map(([name, value]) => [name, String(value)])),
      body: response.rawPayload,
    };
  }
}
