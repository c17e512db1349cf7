import { Option } from "commander";

/** --data, as the service takes it: which data directory is meant. */
export function dataOption(): Option {
  return new Option("--data <dir>", "data directory of the service").env("MAPLEDGER_DATA").default("./data");
}
