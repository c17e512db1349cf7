import { hash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import t from "tap";
import { Archive } from "../../src/archive/archive.ts";
import { SqliteArchiveSource } from "../../src/sqlite/archive_source.ts";
import { mapledger } from "../support/cli.ts";
import { startService } from "../support/service_process.ts";

const folder = mkdtempSync(join(tmpdir(), "mapledger-proof-"));
const data = join(folder, "data");
const archive = join(folder, "archive");
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

t.test("a proof of files alone is the service's, of the log, behind an archive and of the archive alone", async (t) => {
  const service = await startService({
    MAPLEDGER_DATA: data,
    MAPLEDGER_MIRROR: "off",
    MAPLEDGER_CHECKPOINT_EVENTS: "3",
  });
  const send = (method: string, path: string, body = {}) =>
    fetch(`${service.url}${path}`, {
      method,
      body: JSON.stringify(body),
      headers: { "content-type": "application/json" },
    });
  for (let n = 0; n < 9; n++) await send("POST", "/v1/sessions");
  await (await fetch(`${service.url}/checkpoint`)).text();
  const { vkey } = (await (await fetch(`${service.url}/v1/log`)).json()) as { vkey: string };
  t.equal(await service.end("SIGTERM"), 0);
  const file = join(folder, "proof");
  const proven = async (seq: number, ...words: readonly string[]): Promise<string> => {
    const made = await mapledger("proof", String(seq), ...words);
    t.equal(made.code, 0, made.stderr);
    writeFileSync(file, made.stdout);
    const checked = await mapledger("verify-proof", file, "--key", vkey);
    t.match(checked, { code: 0, stdout: `event ${seq} is in the log` }, checked.stderr);
    return made.stdout;
  };
  const before = extra(await proven(2, "--data", data));
  const source = new SqliteArchiveSource(join(data, "events.sqlite"));
  const { lastSeq } = source;
  source.close();
  const told = await mapledger("archive", "--before", String(lastSeq + 1), "--data", data, "--archive", archive);
  t.equal(told.code, 0, told.stderr);
  t.equal(extra(await proven(2, "--data", data)), before, "behind an archive");
  t.equal(extra(await proven(2, "--data", data, "--archive", archive)), before);
  t.equal(extra(await proven(2, "--archive", archive)), before, "of the archive alone");
  const kept = join(folder, "kept");
  writeFileSync(kept, readFileSync(join(data, "checkpoint")));
  t.equal(extra(await proven(2, "--archive", archive, "--checkpoint", kept)), before);
  const none = await mapledger("proof", String(lastSeq + 9), "--archive", archive);
  t.match(none, { code: 1, stderr: /the archive has events 1 to \d+, not/ });
  const late = await mapledger("proof", String(lastSeq), "--archive", archive);
  t.match(late, { code: 1, stderr: /no available checkpoint includes event/ }, "the event of the last checkpoint");
  const other = await mapledger("proof", "2", "--archive", archive, "--data", join(folder, "none"));
  t.match(other, { code: 1, stderr: /has another log/ });

  const [segment] = new Archive(archive).segments;
  const forged = zstdCompressSync(
    zstdDecompressSync(readFileSync(join(archive, segment?.name as string)))
      .toString()
      .replace('"session":0', '"session":7'),
  );
  writeFileSync(join(archive, segment?.name as string), forged);
  const damaged = await mapledger("proof", "1", "--archive", archive);
  t.match(damaged, { code: 1, stderr: /recorded SHA-256/ });
  const sums = readFileSync(join(archive, "SHA256SUMS"), "utf8");
  writeFileSync(join(archive, "SHA256SUMS"), sums.replace(segment?.sha256 as string, hash("sha256", forged)));
  const changed = await mapledger("proof", "1", "--archive", archive);
  t.match(changed, { code: 1, stderr: /is not in the signed tree of \d+ events/ });
});

function extra(proof: string): string {
  return proof.split("\n")[1] ?? "";
}
