import { Option } from "commander";

/** --data, with the name and default of the service's setting. */
export function dataOption(): Option {
  return new Option("--data <dir>", "data directory of the service").env("MAPLEDGER_DATA").default("./data");
}
