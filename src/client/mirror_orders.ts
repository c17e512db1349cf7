import { ask, type Service } from "./ask.ts";

/** An operator's order about the kernel map of one map. */
export type MapOrder =
  | { readonly what: "decide"; readonly take: "ledger" | "kernel"; readonly keys: readonly string[] | null }
  | { readonly what: "recreate" }
  | { readonly what: "repin"; readonly pathname: string };

/** Sends the order to a service; returns the event's seq. Throws an Error with the reason if it was not carried out. */
export function orderForMap(service: Service, map: number, order: MapOrder): Promise<number> {
  return sent(service, `/v1/maps/${map}/mirror/${order.what}`, bodyOf(order));
}

/**
 * Makes a service take over its directory of pins; returns the event's seq. Throws an Error with the reason if it did
 * not.
 */
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
      return undefined;
  }
}

async function sent(service: Service, path: string, body?: object): Promise<number> {
  const { status, json } = await ask(service, "POST", path, body);
  if (status < 300 && typeof json.seq === "number") return json.seq;
  throw new Error(`${service.url}: ${json.detail ?? json.title ?? `POST ${path} was answered ${status}`}`);
}
