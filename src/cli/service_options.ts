import { InvalidArgumentError, Option } from "commander";
import { SETTINGS } from "../config.ts";

/** A service as it listens if nothing is set. */
const DEFAULT_URL = `http://${SETTINGS.host.fallback}:${SETTINGS.port.fallback}`;

/** --url without a default: the command does it itself unless it is given. */
export function urlOption(what: string): Option {
  return new Option("--url <url>", what).argParser(url);
}

/** --url of the service that is asked. */
export function serviceOption(): Option {
  return urlOption("the service that is asked").default(DEFAULT_URL);
}

export function tokenOption(): Option {
  return new Option("--token <token>", "bearer token for the service").env("MAPLEDGER_TOKEN");
}

function url(text: string): string {
  if (/^https?:\/\//.test(text) && URL.canParse(text)) return text;
  throw new InvalidArgumentError("http://... or https://... is needed.");
}
