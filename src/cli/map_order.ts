import { type Command, InvalidArgumentError, Option } from "commander";
import { type MapOrder, orderForMap } from "../client/mirror_orders.ts";
import { serviceOption, tokenOption } from "./service_options.ts";
import { findService } from "./service_place.ts";

interface ServiceOptions {
  readonly url?: string;
  readonly token?: string;
}

interface DecideOptions extends ServiceOptions {
  readonly take: "ledger" | "kernel";
  readonly key?: readonly string[];
}

export function addDecide(group: Command): void {
  orderCommand(group, "decide", "Decides whose elements are kept if a map and its kernel map differ.")
    .addOption(
      new Option(
        "--take <side>",
        "ledger: writes the ledger's elements to the kernel map; kernel: imports the kernel map's elements into the ledger",
      )
        .choices(["ledger", "kernel"])
        .makeOptionMandatory(),
    )
    .addOption(
      new Option("--key <hex...>", "decide only elements with these keys (default: all that differ)").argParser(keys),
    )
    .action((map: number, { take, key, ...service }: DecideOptions) =>
      send(map, service, { what: "decide", take, keys: key ?? null }),
    );
}

export function addRecreate(group: Command): void {
  orderCommand(
    group,
    "recreate",
    "Makes a new kernel map with all elements of a map. Running programs keep the former kernel map.",
  ).action((map: number, service: ServiceOptions) => send(map, service, { what: "recreate" }));
}

export function addRepin(group: Command): void {
  orderCommand(
    group,
    "repin",
    "Pins a map's kernel map at one of its pathnames again; a foreign pin there is moved aside.",
  )
    .argument("<pathname>", "pathname at which the ledger has the map pinned")
    .action((map: number, pathname: string, service: ServiceOptions) =>
      send(map, service, { what: "repin", pathname }),
    );
}

function orderCommand(group: Command, name: string, description: string): Command {
  return group
    .command(name)
    .description(description)
    .argument("<map>", "the map's id in the ledger", mapId)
    .addOption(serviceOption())
    .addOption(tokenOption());
}

async function send(map: number, service: ServiceOptions, order: MapOrder): Promise<void> {
  const seq = await orderForMap(await findService(service), map, order);
  process.stdout.write(`map ${map}: ${order.what}: event ${seq}\n`);
}

function mapId(text: string): number {
  if (/^[1-9]\d{0,9}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("a map's id is needed.");
}

function keys(text: string, before: readonly string[] | undefined): string[] {
  if (!/^([0-9a-f]{2})+$/i.test(text)) throw new InvalidArgumentError("a key in hex is needed.");
  return [...(before ?? []), text.toLowerCase()];
}
