import { InvalidArgumentError, Option } from "commander";
import { DEFAULT_URL, isServiceUrl, SYSTEM_SOCKET } from "./service_place.ts";

/** --url without a default: unless it is given, the command acts on the files itself. */
export function urlOption(what: string): Option {
  return new Option("--url <url>", `${what}: http://..., https://... or unix:PATH of its socket`).argParser(url);
}

/** --url of the service to ask; if it is not given, `findService` finds one. */
export function serviceOption(): Option {
  return urlOption(
    `the service to ask; by default the first unix socket that exists, of MAPLEDGER_SOCKET, ./data and ${SYSTEM_SOCKET}, ` +
      `otherwise ${DEFAULT_URL} with the token in the data directory`,
  );
}

export function tokenOption(): Option {
  return new Option("--token <token>", "bearer token for the service").env("MAPLEDGER_TOKEN");
}

function url(text: string): string {
  if (isServiceUrl(text)) return text;
  throw new InvalidArgumentError("http://..., https://... or unix:PATH is needed.");
}
