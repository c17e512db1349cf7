import { InvalidArgumentError, Option } from "commander";
import { SETTINGS } from "../config.ts";

/** --bpffs, with the name, default and check of the service's setting: the bpffs on which kernel maps are pinned. */
export function bpffsOption(): Option {
  const { variable, fallback, takes, what, read } = SETTINGS.bpffs;
  return new Option("--bpffs <dir>", what)
    .env(variable)
    .default(fallback)
    .argParser((text) => {
      const directory = read(text);
      if (directory === undefined) throw new InvalidArgumentError(`${takes} is needed.`);
      return directory;
    });
}
