import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "tap";
import { readSettings } from "../../../src/config.ts";
import { ownToken } from "../../../src/data/own_access.ts";
import { checkListen, listenOnSocket, socketPath } from "../../../src/http/server/listeners.ts";

test("no setting opens the service to others by chance", async (t) => {
  const check = (environment: Record<string, string>) => checkListen(readSettings(environment));
  for (const host of ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
    for (const auth of ["on", "off"])
      t.doesNotThrow(() => check({ MAPLEDGER_HOST: host, MAPLEDGER_AUTH: auth }), `${host} ${auth}`);
  const files = { MAPLEDGER_TLS_CERT: "/c", MAPLEDGER_TLS_KEY: "/k" };
  for (const MAPLEDGER_HOST of ["0.0.0.0", "::", "192.168.0.1", "example.org", "127.0.0.1.example.org", ""]) {
    t.throws(() => check({ MAPLEDGER_HOST }), { message: /MAPLEDGER_HOST is .* MAPLEDGER_TLS_CERT/ });
    t.throws(() => check({ MAPLEDGER_HOST, MAPLEDGER_AUTH: "off", ...files }), { message: /only loopback is allowed/ });
    t.throws(() => check({ MAPLEDGER_HOST, MAPLEDGER_AUTH: "off", MAPLEDGER_TLS: "off" }), {
      message: /only loopback is allowed/,
    });
    t.doesNotThrow(() => check({ MAPLEDGER_HOST, ...files }));
    t.doesNotThrow(() => check({ MAPLEDGER_HOST, MAPLEDGER_TLS: "off" }));
    t.doesNotThrow(() => check({ MAPLEDGER_HOST, MAPLEDGER_PORT: "" }), "nothing listens there");
  }
  t.throws(() => check({ MAPLEDGER_TLS_CERT: "/c" }), { message: /set together/ });
  t.throws(() => check({ MAPLEDGER_TLS_CLIENT_CA: "/a" }), { message: /needs MAPLEDGER_TLS_CERT/ });
});

test("the unix socket is in the data directory, elsewhere, or nowhere", async (t) => {
  const at = (environment: Record<string, string>) => socketPath(readSettings(environment));
  t.same(at({ MAPLEDGER_DATA: "/d" }), { path: "/d/mapledger.sock", warning: null });
  t.same(at({ MAPLEDGER_DATA: "/d", MAPLEDGER_SOCKET: "/run/s" }), { path: "/run/s", warning: null });
  t.same(at({ MAPLEDGER_DATA: "/d", MAPLEDGER_SOCKET: "none" }), { path: null, warning: null });
  t.same(at({ MAPLEDGER_SOCKET: `/${"s".repeat(106)}` }).warning, null);
  t.match(at({ MAPLEDGER_SOCKET: `/${"s".repeat(107)}` }), { path: null, warning: /108 bytes \(limit 107\)/ });
});

test("a stale socket is replaced; one that is served, and anything else, is left", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "mapledger-listen-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  writeFileSync(`${folder}/file`, "precious");
  const server = createServer();
  t.teardown(() => server.close());
  const how = { socketMode: 0o640, socketGroup: "0" };
  await t.rejects(listenOnSocket(server, `${folder}/file`, how), { message: /is not a socket/ });
  symlinkSync(`${folder}/file`, `${folder}/link`);
  await t.rejects(listenOnSocket(server, `${folder}/link`, how), { message: /is not a socket/ });
  t.ok(existsSync(`${folder}/file`));
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(`${folder}/served`, resolve));
  await t.rejects(listenOnSocket(server, `${folder}/served`, how), { message: /another process serves it/ });
  await t.rejects(listenOnSocket(server, `${folder}/s`, { ...how, socketGroup: "nobody knows" }), {
    message: /no such group/,
  });
  await new Promise((resolve) => other.close(resolve));
  const script =
    "require('node:net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))";
  t.equal(spawnSync(process.execPath, ["-e", script, `${folder}/stale`]).signal, "SIGKILL");
  t.ok(statSync(`${folder}/stale`).isSocket());
  await listenOnSocket(server, `${folder}/stale`, how);
  const { mode, gid } = statSync(`${folder}/stale`);
  t.equal(mode & 0o777, 0o640);
  t.equal(gid, 0);
});

test("the owner's token is made once, and is nobody else's to read", async (t) => {
  const data = t.testdir({});
  const first = ownToken(data);
  t.match(first, { file: `${data}/token`, isNew: true, token: /^[0-9a-f]{64}$/ });
  t.equal(statSync(first.file).mode & 0o777, 0o600);
  t.same(ownToken(data), { ...first, isNew: false });
  writeFileSync(first.file, " a token of one's own choice \n");
  t.throws(() => ownToken(data), { message: /token has no token of 16 or more printable characters/ });
  writeFileSync(first.file, "a-token-of-my-own\n");
  t.match(ownToken(data), { token: "a-token-of-my-own", isNew: false });
});
