/** Where a service is, and the bearer token that it wants, if it wants one. */
export interface Service {
  readonly url: string;
  readonly token: string | undefined;
}

/** What a service answers: its JSON, of a problem as well. */
export interface Answer {
  readonly status: number;
  readonly json: Readonly<Record<string, unknown>>;
}

/** Sends one request. Throws an Error that says why there is no answer. */
export async function ask({ url, token }: Service, method: string, path: string, body?: object): Promise<Answer> {
  const headers = {
    ...(token !== undefined && { authorization: `Bearer ${token}` }),
    ...(body !== undefined && { "content-type": "application/json" }),
  };
  const init = { method, headers, ...(body !== undefined && { body: JSON.stringify(body) }) };
  const response = await fetch(new URL(path, url), init).catch((error: Error) => {
    throw new Error(`${url}: ${(error.cause as Error | undefined)?.message ?? error.message}`);
  });
  const { status } = response;
  const json = await response.json().catch(() => {
    throw new Error(`${url}: ${method} ${path} was answered ${status} without JSON`);
  });
  return { status, json: json as Answer["json"] };
}
