import type { IncomingHttpHeaders } from "node:http";
import type { Transport } from "../replay/api_target.ts";
import type { HttpRequest, HttpResponse } from "../replay/http_call.ts";
import type { App } from "./parts.ts";

/** Requests to the service itself, as the caller's whose request has them sent. */
export class OwnRequests implements Transport {
  readonly #app: App;
  readonly #headers: Readonly<Record<string, string>>;

  constructor(app: App, { authorization }: IncomingHttpHeaders) {
    this.#app = app;
    this.#headers = authorization === undefined ? {} : { authorization };
  }

  async send({ method, path, body, headers }: HttpRequest): Promise<HttpResponse> {
    const payload = body === null ? {} : { payload: body };
    const response = await this.#app.inject({
      method,
      url: path,
      headers: { ...headers, ...this.#headers },
      ...payload,
    });
    return {
      status: response.statusCode,
      headers: Object.fromEntries(Object.entries(response.headers).map(([name, value]) => [name, String(value)])),
      body: response.rawPayload,
    };
  }
}
