/** What a service has answered. */
export interface Answered {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: a test says what it expects
  readonly body: any;
}

/** Asks a service; a connection that it closes without an answer has status 0. */
export async function ask(url: string, method: string, path: string, body?: object): Promise<Answered> {
  const init =
    body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  try {
    const response = await fetch(`${url}${path}`, { method, ...init });
    const text = await response.text();
    const isJson = response.headers.get("content-type")?.includes("json") === true;
    return { status: response.status, headers: response.headers, text, body: isJson ? JSON.parse(text) : null };
  } catch (error) {
    return { status: 0, headers: new Headers(), text: String(error), body: null };
  }
}
