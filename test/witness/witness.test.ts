import { execFileSync, spawn } from "node:child_process";
import { createHash, generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type Test, test } from "tap";
import { addCheckpointBody } from "../../src/tlog/add_checkpoint.ts";
import { cosignaturesIn, readWitnessKey, type WitnessKey } from "../../src/tlog/cosignature.ts";
import { checkpointText, openNote, signerOf, signNote, type Verifier } from "../../src/tlog/note.ts";
import { openWitness } from "../../src/witness/open.ts";
import { peerOf } from "../../src/witness/peers.ts";
import { witnessServer } from "../../src/witness/server.ts";
import type { Answer, Witness } from "../../src/witness/witness.ts";
import { mapledger } from "../support/cli.ts";
import { bare } from "../support/service_process.ts";
import { SignedLog } from "../support/signed_log.ts";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;
const NAME = "witness.example.org";
const log = new SignedLog("log.example.org");
/** The same log with other leaves from the first on, signed by the same key. */
const fork = Object.assign(new SignedLog("log.example.org", "b"), { signer: log.signer });

function directory(t: Test): string {
  const data = mkdtempSync(join(tmpdir(), "mapledger-witness-"));
  t.teardown(() => rmSync(data, { recursive: true }));
  return data;
}

function opened(t: Test, data = directory(t), logs: readonly Verifier[] = [log.signer]): Witness {
  const { witness, close } = openWitness({ data, name: NAME, logs });
  t.teardown(close);
  return witness;
}

const add = (witness: Witness, body: string): Answer => witness.add(Buffer.from(body));
const shown = ({ status, body }: Answer): [number, string] => [status, body];
const keysOf = (vkeys: readonly string[]): WitnessKey[] => vkeys.map((vkey) => readWitnessKey(vkey) as WitnessKey);

test("a checkpoint that continues the last one gets a cosignature of each type, with the time", async (t) => {
  const witness = opened(t);
  const keys = keysOf(witness.vkeys);
  t.same(
    keys.map(({ name, type }) => [name, type]),
    [
      [NAME, 4],
      [NAME, 6],
    ],
  );
  let old = 0;
  for (const size of [3, 3, 8, 64, 100]) {
    const before = BigInt(Math.floor(Date.now() / 1000));
    const { status, body } = add(witness, log.body(old, size));
    t.equal(status, 200, `${old} to ${size}`);
    const found = cosignaturesIn(log.note(size) + body, keys);
    t.equal(found.length, 2);
    for (const { time } of found) t.ok(time >= before && time <= before + 60n);
    old = size;
  }
});

test("what does not continue is refused, with the status that tlog-witness has for it", async (t) => {
  const witness = opened(t);
  const stranger = signerOf(log.signer.name, generateKeyPairSync("ed25519").privateKey);
  const elsewhere = new SignedLog("other.example.org");
  add(witness, log.body(0, 10));
  const note20 = log.note(20);
  const broken = note20.replace(
    / ([A-Za-z0-9+/=]{40})(.)(.*)\n$/,
    (_, a, b, c) => ` ${a}${b === "A" ? "B" : "A"}${c}\n`,
  );
  const proof = log.proof(10, 20);
  const rows: readonly [what: string, body: string, status: number, answer?: string][] = [
    ["nothing", "", 400],
    ["no blank line", "old 10\n", 400],
    ["no old size", log.body(10, 20).replace("old 10", "new 10"), 400],
    ["a zero in front", log.body(10, 20).replace("old 10", "old 010"), 400],
    ["a size that is not exact", log.body(10, 20).replace("old 10", "old 9007199254740993"), 400],
    ["a hash that is none", addCheckpointBody({ old: 10, proof: [...proof, Buffer.alloc(31)], note: note20 }), 400],
    ["64 hashes", addCheckpointBody({ old: 10, proof: Array(64).fill(Buffer.alloc(32)), note: note20 }), 400],
    ["no newline at the end", log.body(10, 20).trimEnd(), 400],
    ["a carriage return", log.body(10, 20).replace("old 10\n", "old 10\r\n"), 400],
    ["a zero byte in the note", log.body(10, 20).replace("\n20\n", "\n20\0\n"), 400],
    ["no checkpoint", addCheckpointBody({ old: 10, proof, note: signNote("log.example.org\n", log.signer) }), 400],
    ["a log that is not known", elsewhere.body(0, 5), 404],
    ["nobody's signature that is known", log.body(10, 20, log.note(20, stranger)), 403],
    ["a signature that does not hold", log.body(10, 20, broken), 403],
    ["one that does not hold beside one that does", log.body(10, 20, note20 + broken.split("\n\n")[1]), 403],
    ["an old size beyond the new one", addCheckpointBody({ old: 21, proof, note: note20 }), 400],
    ["an older size", log.body(9, 20), 409, "10\n"],
    ["a newer size", log.body(11, 20), 409, "10\n"],
    ["from the beginning", log.body(0, 20), 409, "10\n"],
    ["a smaller tree", log.body(5, 8), 409, "10\n"],
    ["no proof", addCheckpointBody({ old: 10, proof: [], note: note20 }), 422],
    ["a proof too long", addCheckpointBody({ old: 10, proof: [...proof, Buffer.alloc(32)], note: note20 }), 422],
    ["a fork", fork.body(10, 20), 422],
    ["a fork of the same size", fork.body(10, 10), 422],
  ];
  for (const [what, body, status, answer] of rows) {
    const refused = add(witness, body);
    t.equal(refused.status, status, what);
    if (answer !== undefined) t.same([refused.body, refused.type], [answer, "text/x.tlog.size"], what);
    t.equal(status === 422, refused.told !== null, "operators hear of what may be a fork");
  }
  t.equal(
    add(witness, log.body(10, 20, log.note(20, stranger, log.signer))).status,
    200,
    "keys that are unknown do no harm",
  );
  t.match(add(witness, Buffer.concat([Buffer.from(log.body(20, 30)), Buffer.from([0xff])]).toString("latin1")), {
    status: 400,
  });
});

test("an empty tree is cosigned, and has the empty tree's root", async (t) => {
  const witness = opened(t);
  const wrong = signNote(checkpointText({ ...log.head(0), root: Buffer.alloc(32) }), log.signer);
  t.equal(add(witness, addCheckpointBody({ old: 0, proof: [], note: wrong })).status, 422);
  t.equal(add(witness, addCheckpointBody({ old: 0, proof: [Buffer.alloc(32)], note: log.note(5) })).status, 422);
  t.equal(add(witness, log.body(0, 0)).status, 200);
  t.equal(add(witness, log.body(0, 5)).status, 200);
});

test("a log that changes its key is known by both", async (t) => {
  const next = signerOf(log.signer.name, generateKeyPairSync("ed25519").privateKey);
  const witness = opened(t, directory(t), [log.signer, next]);
  t.equal(add(witness, log.body(0, 10)).status, 200);
  t.equal(add(witness, log.body(10, 20, log.note(20, log.signer, next))).status, 200);
  t.equal(add(witness, log.body(20, 30, log.note(30, next))).status, 200);
  t.same(witness.origins, ["log.example.org"]);
});

test("over HTTP: sizes are bounded, and what was cosigned last can be had", async (t) => {
  const other = new SignedLog("other.example.org");
  const witness = opened(t, directory(t), [log.signer, other.signer]);
  const told: string[] = [];
  const app = witnessServer(witness, (line) => told.push(line));
  t.teardown(() => app.close());
  const post = (payload: string) => app.inject({ method: "POST", url: "/add-checkpoint", payload });
  t.equal((await post("x".repeat(200_000))).statusCode, 413);
  t.equal((await post("")).statusCode, 400);
  t.match(await post(log.body(0, 7)), { statusCode: 200, headers: { "x-content-type-options": "nosniff" } });
  t.match(await post(log.body(0, 7)), {
    statusCode: 409,
    headers: { "content-type": "text/x.tlog.size" },
    body: "7\n",
  });
  t.same(told, ["log.example.org: cosigned size 7"]);
  const hash = createHash("sha256").update("log.example.org").digest("hex");
  const { body, statusCode } = await app.inject(`/${hash}/checkpoint`);
  t.equal(statusCode, 200);
  t.ok("text" in openNote(body, log.signer), "it has the log's signature");
  t.equal(cosignaturesIn(body, keysOf(witness.vkeys)).length, 2, "and the witness'");
  const { logs, vkeys } = (await app.inject("/")).json();
  t.same(vkeys, witness.vkeys);
  t.match(logs, [
    { origin: "log.example.org", hash, size: 7, root: log.head(7).root.toString("base64"), checkpoint: body },
    { origin: "other.example.org", size: null, checkpoint: null },
  ]);
  for (const url of [`/${"0".repeat(64)}/checkpoint`, `/${logs[1].hash}/checkpoint`, "/x", "/add-checkpoint"])
    t.equal((await app.inject(url)).statusCode, 404, url);
});

interface Listening {
  readonly port: number;
  /** Sends text from an address of this machine, and reads nothing. */
  connected(text: string, from?: string): Promise<Socket>;
}

async function listening(t: Test, witness: Pick<Witness, "all" | "vkeys">, requestMs?: number): Promise<Listening> {
  const app = witnessServer(witness as Witness, () => {}, requestMs);
  await app.listen({ host: "127.0.0.1", port: 0 });
  const { port } = app.server.address() as AddressInfo;
  const sockets: Socket[] = [];
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy();
    await app.close();
  });
  const connected = async (text: string, localAddress = "127.0.0.1"): Promise<Socket> => {
    const socket = connect({ port, host: "127.0.0.1", localAddress });
    sockets.push(socket);
    socket.on("error", () => {});
    await once(socket, "connect");
    socket.write(text);
    return socket;
  };
  return { port, connected };
}

/** Also where the other side has reset it, which once() would reject with. */
function isClosed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.closed) resolve();
    else socket.resume().once("close", () => resolve());
  });
}

const GET = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const UNFINISHED = "POST /add-checkpoint HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nold";

test("whoever sends requests without end, and reads nothing, keeps nobody from being answered", async (t) => {
  const [CLIENTS, COUNT] = [8, 400];
  let [answered, together, most] = [0, 0, 0];
  const all = (): [] => {
    answered++;
    most = Math.max(most, ++together);
    return [];
  };
  const { connected } = await listening(t, { vkeys: [], all });
  const clients = [];
  for (let client = 0; client < CLIENTS; client++) clients.push(await connected(""));
  for (const client of clients) client.write(GET.repeat(COUNT));
  while (answered < CLIENTS * COUNT) {
    await new Promise((resolve) => setImmediate(resolve));
    together = 0;
  }
  t.ok(most <= CLIENTS * 33 + 32, `${most} answers in one turn of the event loop`);
});

test("of one address few connections are taken, whatever comes by them, and a request has its time", async (t) => {
  const patient = await listening(t, { vkeys: [], all: () => [] }, 600_000);
  const sockets = [];
  for (let at = 0; at < 300; at++) sockets.push(await patient.connected(UNFINISHED));
  const closed = sockets.slice(64).map((socket) => isClosed(socket));
  await Promise.all(closed);
  t.equal(sockets.filter(({ closed }) => closed).length, 300 - 64);
  const other = await patient.connected(GET, "127.0.0.2");
  t.match(String((await once(other, "data"))[0]), /^HTTP\/1.1 200 /, "another address is answered");
  sockets[0]?.destroy();
  for (;;) {
    const again = await patient.connected(GET);
    const [text] = await Promise.race([once(again, "data").catch(() => [null]), isClosed(again).then(() => [null])]);
    if (text !== null) break;
  }
  t.pass("and so is the same one when it has closed one of them");

  const hasty = await listening(t, { vkeys: [], all: () => [] }, 200);
  for (const begun of [UNFINISHED, GET.slice(0, -4), ""]) {
    const slow = await hasty.connected(begun);
    const trickle = setInterval(() => slow.write("a"), 20);
    await isClosed(slow);
    clearInterval(trickle);
    t.pass(`closed: ${JSON.stringify(begun)}`);
  }
});

test("a peer is an IPv4 address, or an IPv6 network", async (t) => {
  for (const [address, peer] of [
    ["192.0.2.1", "192.0.2.1"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2"],
    ["2001:db8::1", "2001:db8:0:0"],
    ["2001:db8:1:2::", "2001:db8:1:2"],
    ["::1", "0:0:0:0"],
    ["fe80::1%eth0", "fe80:0:0:0"],
    ["", ""],
  ] as const)
    t.equal(peerOf(address), peer, address);
});

test("the Ed25519 cosignature is one for openssl, over the message that tlog-cosignature writes", async (t) => {
  const data = directory(t);
  const witness = opened(t, data);
  const { body } = add(witness, log.body(0, 7));
  const [, base64 = ""] = (body.split("\n")[0] as string).split(`${NAME} `);
  const bytes = Buffer.from(base64, "base64");
  const root = log.head(7).root.toString("base64");
  const message = `cosignature/v1\ntime ${bytes.readBigUInt64BE(4)}\nlog.example.org\n7\n${root}\n`;
  const key = Buffer.from(witness.vkeys[0]?.split("+").slice(2).join("+") ?? "", "base64").subarray(1);
  writeFileSync(join(data, "message"), message);
  writeFileSync(join(data, "signature"), bytes.subarray(12));
  writeFileSync(join(data, "key"), Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), key]));
  const words = "pkeyutl -verify -pubin -keyform DER -inkey key -rawin -in message -sigfile signature".split(" ");
  t.match(execFileSync("openssl", words, { cwd: data, encoding: "utf8" }), "Signature Verified Successfully");
});

test("a witness that has lost a part of itself is none any more", async (t) => {
  const data = directory(t);
  const first = openWitness({ data, name: NAME, logs: [log.signer] });
  add(first.witness, log.body(0, 5));
  const refuses = (why: RegExp, name: string | null = null): void => {
    t.throws(() => openWitness({ data, name, logs: [log.signer] }), why);
  };
  refuses(/another mapledger is using it/);
  first.close();
  for (const name of ["ed25519.key", "ml-dsa-44.key", "witness.sqlite"])
    t.equal(statSync(join(data, name)).mode & 0o777, 0o600, name);
  refuses(/this witness is named witness.example.org/, "other.example.org");
  const key = readFileSync(join(data, "ed25519.key"));
  rmSync(join(data, "ed25519.key"));
  refuses(/ed25519.key is missing: this witness has cosigned with it/);
  const another = generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" });
  writeFileSync(join(data, "ed25519.key"), another);
  refuses(/the keys in .* are not those of this witness/);
  writeFileSync(join(data, "ed25519.key"), key);
  const again = openWitness({ data, name: null, logs: [log.signer] });
  t.same(shown(add(again.witness, log.body(0, 9))), [409, "5\n"], "it goes on where it was");
  again.close();
  for (const suffix of ["", "-wal", "-shm"]) rmSync(join(data, `witness.sqlite${suffix}`), { force: true });
  refuses(/witness.sqlite is missing: without it this witness does not know which checkpoints it has cosigned/);
  t.throws(() => openWitness({ data: directory(t), name: null, logs: [] }), /a new witness needs a name: --name/);
});

/** `mapledger witness` as a process of its own. */
async function started(
  t: Test,
  data: string,
): Promise<{ url: string; lines: string[]; kill(signal: NodeJS.Signals): Promise<void> }> {
  const words = ["witness", "--data", data, "--name", NAME, "--listen", "127.0.0.1:0", "--log", log.signer.vkey];
  const child = spawn(process.execPath, [MAIN, ...words], {
    stdio: ["ignore", "pipe", "inherit"],
    env: bare(process.env),
  });
  const exited = once(child, "exit");
  const kill = async (signal: NodeJS.Signals): Promise<void> => {
    child.kill(signal);
    await exited;
  };
  t.teardown(() => kill("SIGKILL"));
  const lines: string[] = [];
  const url = await new Promise<string>((resolve, reject) => {
    exited.then(([code]) => reject(new Error(`the witness ended with ${code}`)));
    createInterface({ input: child.stdout }).on("line", (line) => {
      lines.push(line);
      if (line.startsWith("listening on ")) resolve(line.slice("listening on ".length));
    });
  });
  return { url, lines, kill };
}

async function send(url: string, body: string): Promise<[status: number, text: string]> {
  const response = await fetch(`${url}/add-checkpoint`, { method: "POST", body });
  return [response.status, await response.text()];
}

test("of requests at once one is cosigned; what was answered is there after a kill", async (t) => {
  const data = directory(t);
  let first = await started(t, data);
  const vkeys = first.lines.filter((line) => line.startsWith("vkey ")).map((line) => line.slice("vkey ".length));
  t.equal(keysOf(vkeys).filter((key) => key !== null).length, 2, "it prints its keys");
  let known = 0;
  for (let round = 0; round < 3; round++) {
    const sizes = Array.from({ length: 8 }, (_, at) => known + 1 + at);
    const answers = await Promise.all(sizes.map((size) => send(first.url, log.body(known, size))));
    const cosigned = sizes.filter((_, at) => answers[at]?.[0] === 200);
    t.equal(cosigned.length, 1, "one of them");
    const [size] = cosigned as [number];
    for (const [status, text] of answers) if (status !== 200) t.same([status, text], [409, `${size}\n`]);
    // Killed while more are under way: some may have been kept whose answer nobody has seen.
    const more = [size + 1, size + 2].map((next) => send(first.url, log.body(size, next)).catch(() => null));
    await Promise.race(more);
    await first.kill("SIGKILL");
    const seen = (await Promise.all(more)).findIndex((answer) => answer?.[0] === 200);
    first = await started(t, data);
    const [status, text] = await send(first.url, log.body(0, 100));
    t.equal(status, 409);
    known = Number(text);
    t.ok(known >= (seen === -1 ? size : size + 1 + seen), "nothing that was answered is forgotten");
    t.equal((await send(first.url, fork.body(known, known)))[0], 422, "and no other history is cosigned");
    t.equal((await send(first.url, log.body(known, known)))[0], 200, "who did not see the answer gets another");
  }
  await first.kill("SIGTERM");
});

test("mapledger witness says what it cannot do", async (t) => {
  const data = directory(t);
  const vkey = log.signer.vkey;
  const rows: readonly [words: string[], code: number, stderr: RegExp][] = [
    [["--name", "w"], 2, /--log or --logs is needed/],
    [["--name", "a b", "--log", vkey], 2, /A name without spaces/],
    [["--name", "w", "--log", "x"], 2, /It is neither a verifier key of type Ed25519 nor a file that has one/],
    [["--name", "w", "--log", vkey, "--listen", "8630"], 2, /An address and a port are needed/],
    [["--log", vkey], 1, /a new witness needs a name/],
  ];
  for (const [words, code, stderr] of rows)
    t.match(await mapledger("witness", "--data", join(data, "w"), ...words), { code, stderr });
  const logs = join(data, "logs");
  writeFileSync(logs, `# of ours\n${vkey} # the ledger\n\nnonsense\n`);
  t.match(await mapledger("witness", "--data", data, "--name", "w", "--logs", logs), {
    code: 2,
    stderr: /neither a verifier key/,
  });
});
