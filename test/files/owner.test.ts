import { chmodSync, chownSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { mapledger } from "../support/cli.ts";
import { call } from "../support/load.ts";
import { startService } from "../support/service_process.ts";
import { asUser, give, USER, unfitForUsers } from "../support/unprivileged.ts";

const EVENTS = 8;
const unfit = unfitForUsers();

/** What below a directory is not its owner's. */
function foreign(directory: string): string[] {
  const { uid } = statSync(directory);
  return readdirSync(directory, { recursive: true, encoding: "utf8" }).filter(
    (name) => lstatSync(join(directory, name)).uid !== uid,
  );
}

function ownFolder(path: string): string {
  mkdirSync(path);
  give(path);
  return path;
}

async function serve(data: string, more: Record<string, string> = {}): Promise<void> {
  const settings = { MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off", MAPLEDGER_CHECKPOINT_SECONDS: "3600", ...more };
  const service = await startService(settings, [], asUser([]));
  try {
    for (let at = 0; at < EVENTS; at++) await call(service.url, "POST", "/v1/sessions", {});
  } finally {
    await service.end("SIGTERM");
  }
}

t.test(
  "root's orders about a user's data directory leave nothing that this user cannot open",
  { skip: unfit ?? false },
  async (t: Test) => {
    const root = mkdtempSync(join(tmpdir(), "mapledger-owner-"));
    t.teardown(() => rmSync(root, { recursive: true }));
    chmodSync(root, 0o755);
    const [data, restored] = [ownFolder(join(root, "data")), ownFolder(join(root, "restored"))];
    const tokens = join(ownFolder(join(root, "etc")), "tokens");
    const backup = join(root, "backup");
    await serve(data);
    // Without it who looks at the state makes it.
    rmSync(join(data, "state", "data.mdb-lock"));
    for (const words of [
      ["verify", data],
      ["archive", "--before", "3", "--data", data],
      ["key", "rotate", "--data", data],
      ["backup", backup, "--data", data],
      ["restore-backup", backup, "--data", restored],
      ["token", "add", "alice", "--scopes", "read", "--tokens", tokens],
      ["token", "add", "bob", "--scopes", "read", "--tokens", tokens],
    ]) {
      const { code, stderr, stdout } = await mapledger(...words);
      t.equal(code, 0, `${words[0]} ${stderr} ${stdout}`);
      for (const folder of [data, restored, join(root, "etc")])
        t.same(foreign(folder), [], `${words.join(" ")}: ${folder}`);
    }
    t.equal(statSync(backup).uid, 0, "a backup is who orders it");
    rmSync(join(data, "tree.sqlite"));
    t.match(await mapledger("tree", "begin-anew", "--data", data), { code: 0, stdout: /the tree was begun anew/ });
    t.same(foreign(data), []);
    await serve(data, { MAPLEDGER_TOKENS: tokens });
    await serve(restored);
    const hidden = join(root, "hidden");
    mkdirSync(hidden, { mode: 0o700 });
    chownSync(join(data, "archive"), USER, USER);
    const { code, stderr } = await mapledger("archive", "--before", "5", "--data", data, "--archive", hidden);
    t.match({ code, stderr }, { code: 1, stderr: /EACCES/ }, "he has no right beyond his own");
  },
);
