import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Test, test } from "tap";
import { WitnessConnection } from "../../src/client/witness.ts";
import { readProof } from "../../src/log/tlog_proof.ts";
import { Witnesses, type WitnessTold } from "../../src/service/witnesses.ts";
import { readWitnesses } from "../../src/service/witnesses_file.ts";
import { readAddCheckpoint } from "../../src/tlog/add_checkpoint.ts";
import { cosignaturesIn, readWitnessKey, type WitnessKey } from "../../src/tlog/cosignature.ts";
import { openNote, readVkey, type Verifier } from "../../src/tlog/note.ts";
import { openWitness } from "../../src/witness/open.ts";
import { witnessServer } from "../../src/witness/server.ts";
import type { Witness } from "../../src/witness/witness.ts";
import { mapledger } from "../support/cli.ts";
import { until } from "../support/ledger.ts";
import { type ServiceProcess, startService } from "../support/service_process.ts";
import { SignedLog } from "../support/signed_log.ts";

type Json = Record<string, unknown>;

function directory(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), "mapledger-witnesses-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** A witness of ours that listens; the port stays its own when it is closed and opened again. */
async function listening(t: Test, name: string, logs: readonly Verifier[]): Promise<{ url: string; witness: Witness }> {
  const { witness, close } = openWitness({ data: directory(t), name, logs });
  const app = witnessServer(witness, () => {});
  const url = await app.listen({ host: "127.0.0.1", port: 0 });
  t.teardown(async () => {
    await app.close();
    close();
  });
  return { url, witness };
}

/** A server that answers as it is told to. */
async function answering(t: Test, answer: RequestListener): Promise<string> {
  const server = createServer(answer).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const log = new SignedLog("log.example.org");
const fork = Object.assign(new SignedLog("log.example.org", "b"), { signer: log.signer });
const keyOf = (vkey: string | undefined): WitnessKey => readWitnessKey(vkey ?? "") as WitnessKey;

/** A tree that was signed at `size`, and remembers what was cosigned. */
class Tree {
  size = 10;
  log = log;
  readonly kept: { size: number; by: readonly string[] }[] = [];
  #keys: readonly WitnessKey[] = [];

  constructor(keys: readonly WitnessKey[]) {
    this.#keys = keys;
  }

  async submission(old: number) {
    const { size } = this;
    return { size, note: this.log.note(size), proof: old > size ? null : this.log.proof(old, size) };
  }

  async keepCosignatures(size: number, lines: string): Promise<string[]> {
    const by = cosignaturesIn(this.log.note(size) + lines, this.#keys).map(({ witness }) => witness.vkey);
    if (by.length > 0) this.kept.push({ size, by });
    return by;
  }

  async cosignedBy(vkey: string): Promise<number> {
    return this.kept.findLast(({ by }) => by.includes(vkey))?.size ?? 0;
  }
}

interface Run {
  readonly tree: Tree;
  readonly witnesses: Witnesses;
  readonly told: WitnessTold[];
}

function run(t: Test, url: string, keys: readonly WitnessKey[], tree = new Tree(keys)): Run {
  const told: WitnessTold[] = [];
  const witnesses = new Witnesses([{ url: new URL(url), keys }], {
    tree,
    connect: (url) => new WitnessConnection(url),
    tell: (one) => told.push(one),
    pauseMs: 5,
    pauseMostMs: 20,
  });
  t.teardown(() => witnesses.close());
  return { tree, witnesses, told };
}

test("each checkpoint goes out with its proof, and both types of cosignatures are kept", async (t) => {
  const { url, witness } = await listening(t, "w.example.org", [log.signer]);
  const keys = witness.vkeys.map(keyOf);
  const { tree, witnesses, told } = run(t, url, keys);
  t.match(witnesses.statuses, [{ state: "waiting", cosignedSize: 0 }, {}]);
  for (const size of [10, 11, 64]) {
    tree.size = size;
    witnesses.wake();
    await until(`size ${size} is cosigned`, async () => tree.kept.at(-1)?.size === size);
    t.same(tree.kept.at(-1)?.by, witness.vkeys);
  }
  await until("it is told", async () => witnesses.statuses.every(({ cosignedSize }) => cosignedSize === 64));
  t.match(witnesses.statuses, [
    { name: "w.example.org", vkey: witness.vkeys[0], url: `${url}/`, state: "cosigning", detail: null },
    { name: "w.example.org", vkey: witness.vkeys[1], url: `${url}/`, state: "cosigning", detail: null },
  ]);
  t.match(told, [{ state: "cosigning", size: 10 }], "it is told once");
});

test("a service that has forgotten what was cosigned asks the witness, and goes on from there", async (t) => {
  const { url, witness } = await listening(t, "w.example.org", [log.signer]);
  witness.add(Buffer.from(log.body(0, 7)));
  const { tree, witnesses } = run(t, url, witness.vkeys.map(keyOf));
  witnesses.wake();
  await until("it is cosigned", async () => tree.kept.at(-1)?.size === 10);
  const again = run(t, url, witness.vkeys.map(keyOf), tree);
  again.witnesses.wake();
  await until("after a restart, too", async () => again.witnesses.statuses[0]?.state === "cosigning");
  t.match(again.witnesses.statuses, [{ cosignedSize: 10 }, { cosignedSize: 10 }]);
});

test("a witness that has seen another history is an alarm, until it cosigns again", async (t) => {
  const rows: readonly [what: string, seen: string, detail: RegExp][] = [
    [
      "a larger tree",
      log.body(0, 50),
      /^it has cosigned a tree of size 50, but the newest that this log has signed has size 10$/,
    ],
    ["a fork of the same size", fork.body(0, 10), /^it denies that the tree of size 10 continues the one of size 10$/],
    ["a smaller fork", fork.body(0, 4), /^it denies that the tree of size 10 continues the one of size 4$/],
  ];
  for (const [what, seen, detail] of rows) {
    const { url, witness } = await listening(t, "w.example.org", [log.signer]);
    witness.add(Buffer.from(seen));
    const { tree, witnesses, told } = run(t, url, witness.vkeys.map(keyOf));
    witnesses.wake();
    await until(what, async () => witnesses.statuses[0]?.state === "alarm");
    t.match(witnesses.statuses[0]?.detail, detail, what);
    t.match(told, [{ state: "alarm" }], "it is told once, however often it is asked");
    if (what !== "a larger tree") tree.log = fork;
    tree.size = 60;
    await until(
      "the history that the witness has seen is back",
      async () => witnesses.statuses[0]?.state === "cosigning",
    );
    t.equal(told.length, 2);
  }
});

test("whatever else is answered is told, and asked again", async (t) => {
  const { url: real, witness } = await listening(t, "w.example.org", [log.signer]);
  const stranger = await listening(t, "w.example.org", [log.signer]);
  const { body: strangers } = stranger.witness.add(Buffer.from(log.body(0, 10)));
  let answer: RequestListener = (_request, response) => response.end();
  const url = await answering(t, (request, response) => answer(request, response));
  const of = (status: number, body = "", type = "text/plain"): RequestListener => {
    return (_request, response) => response.writeHead(status, { "content-type": type }).end(body);
  };
  const rows: readonly [what: string, answer: RequestListener, detail: RegExp][] = [
    ["an unknown log", of(404), /^it answered 404$/],
    ["an unknown key", of(403, "who is that?\n"), /^it answered 403: who is that\?$/],
    ["a failure", of(500), /^it answered 500$/],
    [
      "a redirect",
      (_, response) => response.writeHead(307, { location: `${real}/add-checkpoint` }).end(),
      /^it answered 307$/,
    ],
    ["no cosignature", of(200), /^it answered without a valid cosignature/],
    ["a stranger's", of(200, strangers), /^it answered without a valid cosignature/],
    ["nonsense", of(200, "\u2014 w.example.org nonsense\n"), /^it answered without a valid cosignature/],
    ["a conflict without a size", of(409), /^it answered 409$/],
    ["a size that is none", of(409, "x\n", "text/x.tlog.size"), /^it answered 409 without another size$/],
    ["the same size", of(409, "0\n", "text/x.tlog.size"), /^it answered 409 without another size$/],
    ["an endless answer", (_, response) => void response.writeHead(200).write("x".repeat(1024 * 1024)), /./],
    ["a cut", (request) => request.socket.destroy(), /./],
  ];
  for (const [what, next, detail] of rows) {
    answer = next;
    const { witnesses, tree } = run(t, url, witness.vkeys.map(keyOf));
    witnesses.wake();
    await until(what, async () => witnesses.statuses[0]?.state === "failing");
    t.match(witnesses.statuses[0]?.detail, detail, what);
    const keys: string[] = [];
    answer = (request, response) => {
      let body = "";
      request.on("data", (piece) => {
        body += piece;
      });
      request.on("end", () => {
        keys.push(String(readAddCheckpoint(body)?.old));
        const added = witness.add(Buffer.from(body));
        response.writeHead(added.status, { "content-type": added.type }).end(added.body);
      });
    };
    await until(`it is asked again after ${what}`, async () => tree.kept.length === 1);
  }
});

test("an earlier witness answers 409 to another tree of the same size, with the size or without: an alarm", async (t) => {
  const { witness } = await listening(t, "w.example.org", [log.signer]);
  for (const second of ["10\n", ""]) {
    let asked = 0;
    const url = await answering(t, (_request, response) => {
      const body = asked++ === 0 ? "10\n" : second;
      response.writeHead(409, body === "" ? {} : { "content-type": "text/x.tlog.size" }).end(body);
    });
    const { witnesses } = run(t, url, witness.vkeys.map(keyOf));
    witnesses.wake();
    await until("it is an alarm", async () => witnesses.statuses[0]?.state === "alarm");
    t.match(witnesses.statuses[0]?.detail, "it denies that the tree of size 10 continues the one of size 10");
  }
});

test("a witness that answers other sizes without end is left alone for a while", async (t) => {
  let asked = 0;
  const url = await answering(t, (_request, response) => {
    response.writeHead(409, { "content-type": "text/x.tlog.size" }).end(`${(asked++ % 9) + 1}\n`);
  });
  const { witness } = await listening(t, "w.example.org", [log.signer]);
  const { witnesses } = run(t, url, witness.vkeys.map(keyOf));
  witnesses.wake();
  await until("it fails", async () => witnesses.statuses[0]?.state === "failing");
  t.match(witnesses.statuses[0]?.detail, "it answered with another size 4 times");
});

test("the file of witnesses is read, and a line that is wrong is named", async (t) => {
  const file = join(directory(t), "witnesses");
  const { witness } = await listening(t, "w.example.org", [log.signer]);
  const [a, b] = witness.vkeys as [string, string];
  const read = (text: string) => {
    writeFileSync(file, text);
    return readWitnesses(file);
  };
  t.same(readWitnesses(""), []);
  const found = read(
    `# ours\n${a} https://w.example.org/prefix/ # both types\n\n${b}\thttps://w.example.org/prefix\r\n`,
  );
  t.same(
    found.map(({ url, keys }) => [url.href, keys.map(({ vkey }) => vkey)]),
    [["https://w.example.org/prefix", [a, b]]],
  );
  const rows: readonly [text: string, why: RegExp][] = [
    ["x https://w.example.org", /line 1 has no verifier key of a witness/],
    [`\n${log.signer.vkey} https://w.example.org`, /line 2 has no verifier key of a witness/],
    [a, /line 1 has no http or https URL/],
    [`${a} ftp://w.example.org`, /line 1 has no http or https URL/],
    [`${a} https://user:password@w.example.org`, /line 1 has no http or https URL/],
    [`${a} https://w.example.org/?a=b`, /line 1 has no http or https URL/],
    [`${a} https://w.example.org more`, /line 1 has more than a key and a URL/],
    [`${a} https://w.example.org\n${a} https://x.example.org`, /line 2 has a key that an earlier line has/],
  ];
  for (const [text, why] of rows) t.throws(() => read(text), why, text);
});

/** A service with witnesses, as it is started. */
async function service(
  t: Test,
  data: string,
  file: string,
  more: Record<string, string> = {},
): Promise<ServiceProcess> {
  const started = await startService({
    MAPLEDGER_DATA: data,
    MAPLEDGER_MIRROR: "off",
    MAPLEDGER_ORIGIN: "ledger.example.org",
    MAPLEDGER_WITNESSES: file,
    ...more,
  });
  t.teardown(() => started.end("SIGKILL"));
  return started;
}

test("a service and two witnesses: cosigned checkpoints and proofs, over restarts, and verify", async (t) => {
  const [data, folder] = [directory(t), directory(t)];
  const file = join(folder, "witnesses");
  writeFileSync(file, "");
  let ledger = await service(t, data, file);
  const get = async (path: string): Promise<[number, string]> => {
    const response = await fetch(`${ledger.url}${path}`);
    return [response.status, await response.text()];
  };
  const json = async (path: string): Promise<Json> => JSON.parse((await get(path))[1]) as Json;
  const open = async (): Promise<void> => {
    const headers = { "content-type": "application/json" };
    await fetch(`${ledger.url}/v1/sessions`, { method: "POST", headers, body: "{}" });
  };
  const verifier = readVkey((await json("/v1/log")).vkey as string) as Verifier;
  const all = await Promise.all(["a.example.org", "b.example.org"].map((name) => listening(t, name, [verifier])));
  const keys = all.flatMap(({ witness }) => witness.vkeys.map(keyOf));
  const lines = all.flatMap(({ url, witness }) => witness.vkeys.map((vkey) => `${vkey} ${url}\n`));
  t.match(JSON.parse((await get("/checkpoint?cosigned=1"))[1]), {
    type: "urn:mapledger:problem:not-cosigned",
    status: 404,
    detail: "1 cosignatures are asked for, 0 witnesses are known",
  });
  await ledger.end("SIGTERM");
  writeFileSync(file, lines.join(""));
  ledger = await service(t, data, file);
  await open();
  t.match(JSON.parse((await get("/checkpoint?cosigned=2"))[1]), {
    status: 404,
    detail: /^no checkpoint has 2 cosignatures/,
  });
  await get("/checkpoint");
  await until("both have cosigned", async () => (await get("/checkpoint?cosigned=2"))[0] === 200);
  const [, cosigned] = await get("/checkpoint?cosigned=2");
  t.ok("text" in openNote(cosigned, verifier));
  t.equal(cosignaturesIn(cosigned, keys).length, 4, "of both types, by both");
  t.equal((await get("/checkpoint?cosigned=3"))[0], 404);
  t.equal((await get("/checkpoint?cosigned=0"))[0], 400);
  // What comes later is proved by the cosigned checkpoint only when there is one that has it.
  const [, proof] = await get("/v1/events/1/proof");
  t.match(readProof(proof, verifier), { event: { seq: 1 } });
  t.equal(cosignaturesIn(proof.slice(proof.indexOf("\n\n") + 2), keys).length, 4);
  t.match((await json("/v1/log")).witnesses, [
    { name: "a.example.org", state: "cosigning", cosigned_size: 1, url: `${all[0]?.url}/` },
    { name: "a.example.org", state: "cosigning", cosigned_size: 1 },
    { name: "b.example.org", state: "cosigning", cosigned_size: 1 },
    { name: "b.example.org", state: "cosigning", cosigned_size: 1 },
  ]);
  const [, metrics] = await get("/metrics");
  t.match(metrics, 'mapledger_witness_size{witness="a.example.org"} 1');
  t.match(metrics, 'mapledger_witness_alarm{witness="b.example.org"} 0');
  await ledger.end("SIGKILL");
  const older = directory(t);
  cpSync(data, older, { recursive: true, filter: (name) => !name.endsWith(".sock") });
  ledger = await service(t, data, file);
  t.same(await get("/checkpoint?cosigned=2"), [200, cosigned], "over a kill");
  await open();
  t.match((await get("/v1/events/2/proof?cosigned=2"))[0], 404);
  t.match(readProof((await get("/v1/events/2/proof"))[1], verifier), { event: { seq: 2 } });
  await until("the next is cosigned", async () => (await get("/v1/events/2/proof?cosigned=2"))[0] === 200);
  await ledger.end("SIGTERM");
  const kept = join(folder, "kept");
  writeFileSync(kept, cosigned);
  const by = all.flatMap(({ witness }) => ["--witness", witness.vkeys[1] as string]);
  t.match(await mapledger("verify", data, "--checkpoint", kept, ...by, "--quorum", "2"), { code: 0 });
  const directorys = await mapledger("verify", data, ...by);
  t.equal(directorys.code, 0, directorys.stdout + directorys.stderr);
  t.match(directorys.stdout, "outside      events 1 to 2 are");
  const stranger = ["--witness", (await listening(t, "c.example.org", [verifier])).witness.vkeys[0] as string];
  t.match(await mapledger("verify", data, ...stranger), {
    code: 1,
    stderr: /no checkpoint in it is cosigned by 1 of the witnesses/,
  });
  // Who puts an older copy of the directory back, and goes on from there, is found out.
  ledger = await service(t, older, file);
  await open();
  await get("/checkpoint");
  const states = async (): Promise<unknown[]> =>
    ((await json("/v1/log")).witnesses as Json[]).map(({ state }) => state);
  await until("it is an alarm", async () => (await states()).every((state) => state === "alarm"));
  t.match((await get("/metrics"))[1], 'mapledger_witness_alarm{witness="a.example.org"} 1');
  const told = (): number =>
    ledger.lines.filter(({ level, msg }) => level === 50 && /has seen another history of this log/.test(String(msg)))
      .length;
  await until("it is told", async () => told() >= 2);
  t.equal(told(), 2, "a log line for each witness");
  t.equal((await get("/v1/log"))[0], 200, "the service goes on");
});

test("a witness that does not answer holds up neither a start nor a stop, and one that is wrong stops the start", async (t) => {
  const data = directory(t);
  const file = join(directory(t), "witnesses");
  let asked = 0;
  const url = await answering(t, () => void asked++);
  const { witness } = await listening(t, "w.example.org", [log.signer]);
  writeFileSync(file, `${witness.vkeys[0]} ${url}\n`);
  const ledger = await service(t, data, file, { MAPLEDGER_CHECKPOINT_SECONDS: "3600" });
  const headers = { "content-type": "application/json" };
  await fetch(`${ledger.url}/v1/sessions`, { method: "POST", headers, body: "{}" });
  await fetch(`${ledger.url}/checkpoint`);
  await until("it is asked", async () => asked > 0);
  t.equal((await fetch(`${ledger.url}/v1/log`)).status, 200);
  t.equal(await ledger.end("SIGTERM"), 0);
  writeFileSync(file, "nonsense");
  await t.rejects(service(t, data, file), /line 1 has no verifier key of a witness/);
});
