/**
 * The health check of a container: exits with 0 if the service with these settings answers /livez. It uses the unix
 * socket if there is one, because that needs neither TLS nor a token, and TCP otherwise. It does not verify the TLS
 * certificate, which names another host than the loopback address; nothing secret is sent.
 */

import { get } from "node:http";
import { get as getByTls } from "node:https";
import { readSettings, type Settings } from "../config.ts";
import { socketPath } from "../http/server/listeners.ts";

const ANY: ReadonlyMap<string, string> = new Map([
  ["0.0.0.0", "127.0.0.1"],
  ["::", "::1"],
]);

const settings = readSettings(process.env);
const { path } = socketPath(settings);
const request =
  path !== null
    ? get({ socketPath: path, path: "/livez" })
    : settings.tlsCert === ""
      ? get(tcp(settings))
      : getByTls({ ...tcp(settings), rejectUnauthorized: false });
request.once("response", ({ statusCode }) => process.exit(statusCode === 200 ? 0 : 1));
request.once("error", ({ message }) => {
  process.stderr.write(`${message}\n`);
  process.exit(1);
});

function tcp({ host, port }: Settings): { readonly host: string; readonly port: number; readonly path: string } {
  if (port === null)
    throw new Error("the service does not listen: MAPLEDGER_PORT is empty, and there is no unix socket");
  return { host: ANY.get(host) ?? host, port, path: "/livez" };
}
