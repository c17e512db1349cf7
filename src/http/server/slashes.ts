/**
 * Encodes the slashes in a pin's path, if the client did not, or if a proxy decoded them, before the request is routed.
 * The path ends where the names of a route begin: /v1/maps/pinned:/sys/fs/bpf/x/elements/01 is element 01 of the map
 * pinned at /sys/fs/bpf/x. If the last names of a pin's path are a route's names, the client must encode its slashes.
 * If it does not, the request finds no map, and never another one: the path without those names is a directory.
 */

/** The root of bpffs, which cannot be a pin. */
const BPFFS = ["sys", "fs", "bpf"];
const BELOW_MAP = "/v1/maps/:map/";
const PINNED = /^\/v1\/maps\/pinned(?::|%3a)/i;
/** Routes whose last parameter is a path. */
const REST_IS_PATH = /^\/v1\/(?:pins|directories)\//;
const ENCODED_SLASH = /%2f/i;
const HEX = /^(?:0x)?[0-9a-f]+$/i;

export class Slashes {
  /** The names after the map in the routes' paths, the longest first. */
  readonly #tails: string[][] = [];

  /** Must be called for each route. */
  add(route: string): void {
    if (!route.startsWith(BELOW_MAP)) return;
    this.#tails.push(route.slice(BELOW_MAP.length).split("/"));
    this.#tails.sort((a, b) => b.length - a.length);
  }

  /** The same URL with the slashes of pins' paths encoded. */
  encoded(url: string): string {
    const head = (PINNED.exec(url) ?? REST_IS_PATH.exec(url))?.[0];
    if (head === undefined) return url;
    const query = url.indexOf("?");
    const end = query === -1 ? url.length : query;
    const names = url.slice(head.length, end).split("/");
    if (names.length === 1 || names.some((name) => ENCODED_SLASH.test(name))) return url;
    const path = names.length - (REST_IS_PATH.test(head) ? 0 : this.#tailOf(names));
    const rest = names.slice(path).map((name) => `/${name}`);
    return `${head}${names.slice(0, path).join("%2F")}${rest.join("")}${url.slice(end)}`;
  }

  /** The number of names at the end that belong to a route; 0: no route has them. */
  #tailOf(names: readonly string[]): number {
    const tail = this.#tails.find((wanted) => isTail(names, wanted) && isPin(names.slice(0, -wanted.length)));
    return tail?.length ?? 0;
  }
}

function isTail(names: readonly string[], wanted: readonly string[]): boolean {
  const from = names.length - wanted.length;
  return (
    from > 0 &&
    wanted.every((name, at) =>
      name.startsWith(":") ? HEX.test(names[from + at] as string) : name === names[from + at],
    )
  );
}

/**
 * Whether a pin may be at a path: the path is relative, or below the root of bpffs. An empty path counts as a pin, so
 * that the route reports that it is empty; otherwise the route's names would become a path outside bpffs.
 */
function isPin(names: readonly string[]): boolean {
  if (names.every((name) => name === "")) return true;
  const meant = names.filter((name) => name !== "" && name !== ".");
  return meant.length > 0 && meant.join("/") !== BPFFS.join("/");
}
