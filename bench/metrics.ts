/** A service's metrics, in Prometheus' text format. `token` null: callers need none. */
export async function metricsOf(url: string, token: string | null): Promise<string> {
  const headers = token === null ? {} : { authorization: `Bearer ${token}` };
  return (await fetch(`${url}/metrics`, { headers })).text();
}
