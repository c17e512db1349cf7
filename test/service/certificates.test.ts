import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import {
  copyFileSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { request } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { connect, createServer, type TLSSocket } from "node:tls";
import t, { type Test } from "tap";
import { certificatesIn, contextOf, type Tls, timeWarnings } from "../../src/http/server/certificates.ts";
import { ClientCertificates } from "../../src/http/server/client_certificates.ts";
import { TlsFiles } from "../../src/service/tls_files.ts";
import { Certificates } from "../support/certificates.ts";
import { until } from "../support/ledger.ts";
import { startService } from "../support/service_process.ts";
import { ask } from "../support/unix_client.ts";

const DAY_MS = 86_400_000;

interface Place {
  readonly folder: string;
  readonly made: Certificates;
  readonly file: (name: string) => string;
}

/** A folder with an authority and a server's certificate. */
function place(t: Test): Place {
  const folder = mkdtempSync(join(tmpdir(), "mapledger-certificates-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const made = new Certificates(folder);
  made.authority("ca");
  made.signed("server", "/CN=server", "ca", "IP:127.0.0.1");
  return { folder, made, file: (name) => join(folder, name) };
}

t.test("what does not go together leaves the certificates as they were, and says why", (t) => {
  const { made, file } = place(t);
  made.signed("next", "/CN=next", "ca", "IP:127.0.0.1");
  const [cert, key, ca] = [file("cert"), file("key"), file("clients")];
  const settings = { tlsCert: cert, tlsKey: key, tlsClientCa: ca };
  const warned: string[] = [];
  const warn = (message: string): void => void warned.push(message);
  t.throws(() => new TlsFiles(settings, warn), { code: "ENOENT" });
  copyFileSync(file("server.pem"), cert);
  copyFileSync(file("next.key"), key);
  copyFileSync(file("ca.pem"), ca);
  t.throws(() => new TlsFiles(settings, warn), {
    message: `the key in ${key} is not the key of the certificate in ${cert}`,
  });
  copyFileSync(file("server.key"), key);
  const files = new TlsFiles(settings, warn);
  const used: Tls[] = [];
  files.watch((tls) => used.push(tls));
  const was = files.inForce;
  t.match(was, { certificate: { subject: "CN=server", issuer: "CN=ca" }, client_authorities: [{ subject: "CN=ca" }] });
  /** Puts one file right, and cuts another. */
  const cutAfter = (from: string, to: string, cut: string, bytes: number): void => {
    copyFileSync(file(from), to);
    truncateSync(cut, bytes);
  };
  const refused: readonly [change: () => void, why: RegExp][] = [
    [() => copyFileSync(file("next.pem"), cert), /key is not the key of the certificate/],
    [() => truncateSync(cert, 100), /cert has no certificate/],
    [
      () =>
        writeFileSync(
          cert,
          Buffer.concat([readFileSync(file("server.pem")), readFileSync(file("ca.pem")).subarray(0, 99)]),
        ),
      /cut off/,
    ],
    [() => writeFileSync(cert, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), /cannot be read/],
    [() => unlinkSync(cert), /ENOENT/],
    [() => cutAfter("server.pem", cert, key, 40), /no key that can be read/],
    [() => cutAfter("server.key", key, ca, 0), /clients has no certificate/],
  ];
  for (const [change, why] of refused) {
    change();
    files.reread();
    t.match(warned.at(-1), /^the certificates cannot be renewed, and stay unchanged: /);
    t.match(warned.at(-1), why);
    t.same(files.inForce, was);
  }
  t.same(used, []);
  copyFileSync(file("ca.pem"), ca);
  files.reread();
  t.same(used, [], "they are what they were");
  copyFileSync(file("next.key"), key);
  copyFileSync(file("next.pem"), cert);
  files.reread();
  t.equal(used.length, 1);
  t.match(files.inForce, { certificate: { subject: "CN=next" } });
  t.equal(warned.length, refused.length);
  t.end();
});

t.test("certificates are warned of before they end, and when they have", (t) => {
  const { file } = place(t);
  const found = certificatesIn(readFileSync(file("server.pem")), "f");
  const endMs = (found[0] as X509Certificate).validToDate.getTime();
  const at = (days: number) => timeWarnings(found, "f", endMs - days * DAY_MS);
  t.same(at(1.5), []);
  t.match(at(0.5), [/^the certificate of CN=server in f expires on .*: 0 days are left$/]);
  t.match(at(-1), [/expired on .*: clients refuse it$/]);
  t.match(at(2.5), [/is not valid before/]);
  const long = { ...facts(found[0] as X509Certificate), validFromDate: new Date(endMs - 400 * DAY_MS) };
  const of = (days: number) => timeWarnings([long as X509Certificate], "f", endMs - days * DAY_MS);
  t.same(of(30.5), []);
  t.match(of(29.5), [/29 days are left$/]);
  t.match(of(1.5), [/1 day is left$/]);
  t.end();
});

function facts(certificate: X509Certificate): Partial<X509Certificate> {
  const { subject, issuer, serialNumber, validToDate, fingerprint256 } = certificate;
  return { subject, issuer, serialNumber, validToDate, fingerprint256 };
}

t.test("a certificate that has ended, or whose key is another's, at a start", async (t) => {
  const { folder, made, file } = place(t);
  made.signed("old", "/CN=old", "ca", "IP:127.0.0.1", 0);
  const settings = { MAPLEDGER_DATA: join(folder, "data"), MAPLEDGER_MIRROR: "off", MAPLEDGER_AUTH: "on" };
  const own = { MAPLEDGER_TLS_CERT: file("old.pem"), MAPLEDGER_TLS_KEY: file("old.key") };
  await until("it has ended", async () => Date.now() > Date.parse(validTo(file("old.pem"))));
  const service = await startService({ ...settings, ...own });
  t.teardown(() => service.child.kill("SIGKILL"));
  t.ok(service.lines.some(({ level, msg }) => level === 40 && /CN=old .* expired on/.test(String(msg))));
  await service.end("SIGTERM");
  const other = { ...own, MAPLEDGER_TLS_KEY: file("server.key") };
  await t.rejects(startService({ ...settings, ...other }), /server\.key is not the key of the certificate in/);
});

function validTo(file: string): string {
  return new X509Certificate(readFileSync(file)).validTo;
}

t.test("a connection ends with its client's certificate, and not before", async (t) => {
  const { made, file } = place(t);
  made.signed("alice", "/CN=alice", "ca", "DNS:alice");
  const read = (name: string) => readFileSync(file(name));
  const tls = { cert: read("server.pem"), key: read("server.key"), clientCa: read("ca.pem") };
  const server = createServer({ ...contextOf(tls), requestCert: true, rejectUnauthorized: false });
  const clients = new ClientCertificates(server, tls);
  const connections = new Set<TLSSocket>();
  server.on("secureConnection", (connection) => connections.add(connection));
  await once(server.listen(0, "127.0.0.1"), "listening");
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  const open = async (own: object): Promise<TLSSocket> => {
    const socket = connect({ host: "127.0.0.1", port, ca: tls.clientCa, ...own }).on("error", () => {});
    await once(socket, "secureConnect");
    return socket;
  };
  const [named, unnamed] = [await open({ cert: read("alice.pem"), key: read("alice.key") }), await open({})];
  await until("both are known", async () => connections.size === 2);
  const endMs = Math.min(...["alice.pem", "ca.pem"].map((name) => Date.parse(validTo(file(name)))));
  clients.closeEnded(endMs);
  t.same(
    [...connections].map(({ destroyed }) => destroyed),
    [false, false],
  );
  const closed = once(named, "close");
  clients.closeEnded(endMs + 2 * DAY_MS);
  await closed;
  t.notOk(unnamed.destroyed, "who has none has a token");
  unnamed.destroy();
});

t.test(
  "a client whose certificate an authority between has signed is known, until the authority above is taken back",
  async (t) => {
    const { made, file } = place(t);
    made.signed("between", "/CN=between", "ca", "DNS:between\nbasicConstraints=critical,CA:TRUE");
    made.signed("carol", "/CN=carol", "between", "DNS:carol");
    made.authority("others");
    const read = (name: string): Buffer => readFileSync(file(name));
    const tls: Tls = { cert: read("server.pem"), key: read("server.key"), clientCa: read("ca.pem") };
    const server = createServer({ ...contextOf(tls), requestCert: true, rejectUnauthorized: false });
    t.teardown(() => server.close());
    const clients = new ClientCertificates(server, tls);
    const served: TLSSocket[] = [];
    server.on("secureConnection", (connection) => {
      served.push(connection);
      connection.on("error", () => {}).write("hello");
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as { port: number };
    const chain = { cert: Buffer.concat([read("carol.pem"), read("between.pem")]), key: read("carol.key") };
    const open = async (): Promise<TLSSocket> => {
      const socket = connect({ host: "127.0.0.1", port, ca: read("ca.pem"), ...chain });
      socket.on("error", () => {});
      t.equal(String(((await once(socket, "data")) as [Buffer])[0]), "hello");
      return socket;
    };
    const [one, other] = [await open(), await open()];
    t.same(
      served.map(({ authorized }) => authorized),
      [true, true],
    );
    clients.use({ ...tls, clientCa: Buffer.concat([read("ca.pem"), read("others.pem")]) });
    t.notOk(
      served.some(({ destroyed }) => destroyed),
      "one authority more takes nobody's right",
    );
    const closed = Promise.all([once(one, "close"), once(other, "close")]);
    clients.use({ ...tls, clientCa: read("others.pem") });
    await closed;
  },
);

/** One request on a connection of its own; `session`: of an earlier one that is taken up again. */
async function get(url: string, path: string, options: object): Promise<{ status: number; socket: TLSSocket }> {
  const { port } = new URL(url);
  const socket = connect({ host: "127.0.0.1", port: Number(port), ...options });
  socket.on("error", () => {});
  await once(socket, "secureConnect");
  return { status: await asked(socket, path), socket };
}

async function asked(socket: TLSSocket, path: string): Promise<number> {
  socket.write(`GET ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n`);
  const [bytes] = (await once(socket, "data")) as [Buffer];
  return Number(/^HTTP\/1\.1 (\d{3})/.exec(bytes.toString("latin1"))?.[1]);
}

t.test(
  "a running service takes renewed certificates, and clients of an authority that is gone lose access",
  async (t) => {
    const { folder, made, file } = place(t);
    made.authority("others");
    made.signed("next", "/CN=next", "ca", "IP:127.0.0.1");
    made.signed("alice", "/CN=alice", "ca", "DNS:alice");
    made.signed("bob", "/CN=bob", "others", "DNS:bob");
    const data = join(folder, "data");
    // As a mount of secrets has it: what is there is reached by a link, which is swapped.
    let versions = 0;
    const mount = (files: Readonly<Record<string, string>>): void => {
      const name = `v${++versions}`;
      for (const [to, from] of Object.entries(files)) writeFileSync(file(`${name}-${to}`), from);
      for (const to of Object.keys(files)) {
        symlinkSync(`${name}-${to}`, file("link"));
        renameSync(file("link"), file(to));
      }
    };
    const read = (name: string) => readFileSync(file(name), "utf8");
    mount({ crt: read("server.pem"), key: read("server.key"), clients: read("ca.pem") + read("others.pem") });
    writeFileSync(file("tokens"), "cert:alice:read,metrics\ncert:bob:read\n");
    const service = await startService({
      MAPLEDGER_DATA: data,
      MAPLEDGER_MIRROR: "off",
      MAPLEDGER_AUTH: "on",
      MAPLEDGER_TOKENS: file("tokens"),
      MAPLEDGER_TLS_CERT: file("crt"),
      MAPLEDGER_TLS_KEY: file("key"),
      MAPLEDGER_TLS_CLIENT_CA: file("clients"),
    });
    t.teardown(() => service.child.kill("SIGKILL"));
    const { url } = service;
    const ca = read("ca.pem");
    const as = (name: string) => ({ ca, cert: read(`${name}.pem`), key: read(`${name}.key`) });
    const events = async () =>
      (
        (await ask(join(data, "mapledger.sock"), "GET", "/v1/events?cmd=CERTIFICATES")) as unknown as {
          events: object[];
        }
      ).events;
    const said = (pattern: RegExp) => service.lines.some(({ msg }) => pattern.test(String(msg)));
    const stream = (name: string) =>
      new Promise<{ ended: Promise<unknown> }>((resolve, reject) => {
        request(`${url}/v1/events/stream`, { agent: false, ...as(name) }, (response) =>
          resolve({ ended: text(response).catch(() => "broken off") }),
        )
          .once("error", reject)
          .end();
      });
    t.match(await events(), [
      {
        caller: "mapledger",
        attr: {
          certificate: { subject: "CN=server", issuer: "CN=ca", serial: /^[0-9a-f]+$/, not_after: /Z$/ },
          client_authorities: [{ subject: "CN=ca" }, { subject: "CN=others" }],
        },
      },
    ]);
    const alice = await get(url, "/v1/maps", as("alice"));
    const bob = await get(url, "/v1/maps", as("bob"));
    t.same([alice.status, bob.status], [200, 200]);

    mount({ crt: read("next.pem") });
    await until("half of a pair is refused", async () => said(/cannot be renewed.*is not the key/));
    const before = await get(url, "/livez", { ca });
    t.equal(before.socket.getPeerCertificate().subject.CN, "server");
    mount({ key: read("next.key") });
    await until("the pair is in force", async () => (await events()).length === 2);
    const renewed = await get(url, "/livez", { ca });
    t.equal(renewed.socket.getPeerCertificate().subject.CN, "next", "without a restart");
    t.equal(await asked(before.socket, "/livez"), 200, "connections under way stay");
    t.equal(await asked(alice.socket, "/v1/maps"), 200);

    const sessions: Buffer[] = [];
    const bobs = await get(url, "/v1/maps", as("bob"));
    if (bobs.socket.getSession() !== undefined) sessions.push(bobs.socket.getSession() as Buffer);
    t.equal(sessions.length, 1);
    const [stays, goes] = await Promise.all([stream("alice"), stream("bob")]);
    const closed = once(bob.socket, "close");
    mount({ clients: read("ca.pem") });
    service.child.kill("SIGHUP");
    await Promise.all([goes.ended, closed]);
    t.equal((await get(url, "/v1/maps", as("bob"))).status, 401);
    t.equal(
      (await get(url, "/v1/maps", { ...as("bob"), session: sessions[0] })).status,
      401,
      "nor by a session of before",
    );
    t.equal(await asked(alice.socket, "/v1/maps"), 200, "another authority's clients go on");
    t.match(await events(), [{}, {}, { attr: { client_authorities: [{ subject: "CN=ca" }] } }]);

    writeFileSync(file("tokens"), "cert:bob:read\n");
    service.child.kill("SIGHUP");
    await stays.ended;
    t.equal((await get(url, "/v1/maps", as("alice"))).status, 401, "a line that is gone");
    t.notMatch(JSON.stringify([await events(), service.lines]), /PRIVATE KEY/);
    for (const { socket } of [alice, before, renewed, bobs]) socket.destroy();
    t.equal(await service.end("SIGTERM"), 0);
  },
);
