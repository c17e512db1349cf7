/**
 * Encodes the slashes of a pin's path in a URL if the client did not, or a proxy decoded them, before anything is
 * routed. The pin ends where the path of a route begins: /v1/maps/pinned:/sys/fs/bpf/x/elements/01 is element 01 of the
 * map pinned at /sys/fs/bpf/x. A client must encode a pin whose last names are those of a route. No other map can be
 * meant by mistake: if x is a map, bpffs has nothing below it.
 */

/** The root of bpffs is no map. */
const BPFFS = ["sys", "fs", "bpf"];
const BELOW_MAP = "/v1/maps/:map/";
const PINNED = /^\/v1\/maps\/pinned(?::|%3a)/i;
/** Routes whose last parameter is a path. */
const REST_IS_PATH = /^\/v1\/(?:pins|directories)\//;
const ENCODED_SLASH = /%2f/i;
const HEX = /^(?:0x)?[0-9a-f]+$/i;

export class Slashes {
  /** What stands behind a map in the paths of routes, the longest first. */
  readonly #tails: string[][] = [];

  /** To be told of each route. */
  add(route: string): void {
    if (!route.startsWith(BELOW_MAP)) return;
    this.#tails.push(route.slice(BELOW_MAP.length).split("/"));
    this.#tails.sort((a, b) => b.length - a.length);
  }

  /** The same URL, in which paths of pins have no slashes. */
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

  /** How many of the last names are a route's. */
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
 * Whether something may be pinned at a path: it is below the root of bpffs, or relative to it. No path at all is taken for one, so that the
 * route behind it answers that it is empty: with the route's names it would be a path outside bpffs.
 */
function isPin(names: readonly string[]): boolean {
  if (names.every((name) => name === "")) return true;
  const meant = names.filter((name) => name !== "" && name !== ".");
  return meant.length > 0 && meant.join("/") !== BPFFS.join("/");
}
