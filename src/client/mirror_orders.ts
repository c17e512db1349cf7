import { ask, type Service } from "./ask.ts";

/** What an operator orders about the kernel map of one map. */
export type MapOrder =
  | { readonly what: "decide"; readonly take: "ledger" | "kernel"; readonly keys: readonly string[] | null }
  | { readonly what: "recreate" | "release" }
  | { readonly what: "repin"; readonly pathname: string };

/** Has a service do it; answers the event's seq. Throws an Error that says why it was not done. */
export function orderForMap(service: Service, map: number, order: MapOrder): Promise<number> {
  return sent(service, `/v1/maps/${map}/mirror/${order.what}`, bodyOf(order));
}

/** Has a service make its directory of pins its own; answers the event's seq. Throws likewise. */
export function takeOverByService(service: Service): Promise<number> {
  return sent(service, "/v1/mirror/take-over");
}

function bodyOf(order: MapOrder): object | undefined {
  switch (order.what) {
    case "decide":
      return order.keys === null ? { take: order.take } : { take: order.take, keys: order.keys };
    case "repin":
      return { pathname: order.pathname };
    case "recreate":
    case "release":
      return undefined;
  }
}

async function sent(service: Service, path: string, body?: object): Promise<number> {
  const { status, json } = await ask(service, "POST", path, body);
  if (status < 300 && typeof json.seq === "number") return json.seq;
  throw new Error(`${service.url}: ${json.detail ?? json.title ?? `POST ${path} was answered ${status}`}`);
}
