import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "tap";
import { signerOf } from "../../src/tlog/note.ts";
import { mapledger } from "../support/cli.ts";
import { call, prepare } from "../support/load.ts";
import { newWitness } from "../support/new_witness.ts";
import { startService } from "../support/service_process.ts";

test("a proof of the running service is checked offline, and so is the whole directory beside it", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "mapledger-proof-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const data = join(folder, "data");
  const service = await startService({ MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off" });
  await prepare(service.url);
  const element = { cmd: "BPF_MAP_UPDATE_ELEM", attr: { map_fd: 3, key: "01000000", value: "2a00000000000000" } };
  const { seq } = await call(service.url, "POST", "/v1/sessions/1/bpf", element);
  const { vkey } = (await call(service.url, "GET", "/v1/log")) as { vkey: string };
  const checkpoint = join(folder, "checkpoint");
  writeFileSync(checkpoint, await (await fetch(`${service.url}/checkpoint`)).text());
  const running = await mapledger("verify", data, "--key", vkey, "--checkpoint", checkpoint);
  t.match(running, { code: 0, stdout: /tree {9}has all events\n/ }, running.stdout + running.stderr);
  const proof = join(folder, "event.tlog-proof");
  writeFileSync(proof, await (await fetch(`${service.url}/v1/events/${seq}/proof`)).text());
  await service.end("SIGTERM");
  rmSync(data, { recursive: true });

  const good = await mapledger("verify-proof", proof, "--key", vkey);
  t.equal(good.code, 0, good.stderr);
  t.match(good.stdout, `"seq": ${seq}`);
  t.match(good.stdout, '"value": "2a00000000000000"');
  t.match(good.stdout, new RegExp(`^event ${seq} is in the log mapledger/.* of \\d+ events, root `, "m"));

  const text = readFileSync(proof, "utf8");
  const note = text.slice(text.indexOf("\n\n") + 2);
  const witnesses = [newWitness("w1.example.org", "ed25519"), newWitness("w2.example.org", "ml-dsa-44")];
  const stranger = newWitness("w3.example.org", "ed25519");
  const cosigned = join(folder, "cosigned.tlog-proof");
  writeFileSync(cosigned, text + witnesses.map((witness) => witness.line(note)).join(""));
  const by = (...all: readonly { readonly vkey: string }[]): string[] => all.flatMap(({ vkey }) => ["--witness", vkey]);
  const check = (...words: string[]) => mapledger("verify-proof", cosigned, ...words);
  t.match(await check(...by(...witnesses)), { code: 0, stdout: `"seq": ${seq}` }, "without the log's key");
  t.match(await check(...by(...witnesses, stranger), "--quorum", "2", "--key", vkey), { code: 0 });
  t.match(await check(...by(...witnesses, stranger)), {
    code: 1,
    stderr: /proves nothing: its checkpoint: 2 of the witnesses have cosigned it, 3 are needed/,
  });
  t.match(await check(...by(stranger), "--quorum", "2"), {
    code: 2,
    stderr: /--quorum is 2, but there are 1 witnesses/,
  });
  const others = signerOf("other", generateKeyPairSync("ed25519").privateKey).vkey;
  t.match(await check(...by(...witnesses), "--key", others), { code: 1, stderr: /not signed by other/ });
  const namesakes = [newWitness("w1.example.org", "ed25519"), newWitness("w2.example.org", "ml-dsa-44")];
  writeFileSync(cosigned, text + namesakes.map((witness) => witness.line(note)).join(""));
  t.match(await check(...by(...witnesses)), { code: 1, stderr: /0 of the witnesses have cosigned it, 2 are needed/ });

  const value = Buffer.from("2a00000000000000", "hex");
  const forged = text.replace(/^extra (.*)$/m, (_, base64: string) => {
    const bytes = Buffer.from(base64, "base64");
    bytes[bytes.indexOf(value)] = 0x2b;
    return `extra ${bytes.toString("base64")}`;
  });
  writeFileSync(proof, forged);
  const bad = await mapledger("verify-proof", proof, "--key", vkey);
  t.match(bad, { code: 1, stdout: "", stderr: /proves nothing: event \d+ with these contents is not in the tree/ });
  t.match(await mapledger("verify-proof", proof), { code: 2, stderr: /--key/ });
  t.match(await mapledger("verify-proof", join(folder, "no"), "--key", vkey), {
    code: 1,
    stderr: /^mapledger: ENOENT/,
  });
});
