import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { ask } from "../support/api.ts";
import { isWhole, prepared, put, ready, start } from "./parts.ts";

const skip = process.geteuid?.() === 0 ? false : "to mount a small file system takes root";

/** A file system of 64 MiB that only processes of its mount namespace see. */
class SmallDisk {
  readonly environment: Readonly<Record<string, string>>;
  readonly data: string;
  /** The words of a command that runs another one there. */
  readonly run: readonly string[];
  readonly #seen: string;

  constructor(holder: number, at: string) {
    this.data = join(at, "data");
    this.environment = { MAPLEDGER_DATA: this.data, MAPLEDGER_MIRROR: "off" };
    this.run = ["nsenter", "-t", String(holder), "-m", "--"];
    this.#seen = `/proc/${holder}/root${at}`;
  }

  static async make(t: Pick<Test, "teardown">): Promise<SmallDisk> {
    const at = mkdtempSync(join(tmpdir(), "mapledger-small-"));
    const hold =
      'mount -t tmpfs -o size=64m,mode=700 tmpfs "$1" && mkdir -m 700 "$1/data" && echo ready && exec sleep 3600';
    const holder = spawn("unshare", ["-m", "sh", "-c", hold, "sh", at], { stdio: ["ignore", "pipe", "inherit"] });
    t.teardown(async () => {
      holder.kill("SIGKILL");
      await once(holder, "exit");
      rmSync(at, { recursive: true });
    });
    await once(holder.stdout, "data");
    return new SmallDisk(holder.pid as number, at);
  }

  fill(): void {
    const file = openSync(join(this.#seen, "filler"), "a");
    for (const bytes of [1024 * 1024, 4096, 1])
      try {
        for (;;) writeSync(file, Buffer.alloc(bytes, 1));
      } catch (error) {
        if ((error as { code?: string }).code !== "ENOSPC") throw error;
      }
    closeSync(file);
  }

  /** So that there is room again. */
  empty(): void {
    rmSync(join(this.#seen, "filler"));
  }

  lose(name: string): void {
    rmSync(join(this.#seen, "data", name), { recursive: true });
  }
}

t.test("a start on a full disk serves reads, and all parts when there is room", { skip }, async (t) => {
  const rows = [
    ["SIGKILL", null],
    ["SIGTERM", "state"],
  ] as const;
  for (const [signal, lost] of rows) {
    const name = `after a ${signal}${lost === null ? "" : `, without its ${lost}`}`;
    const disk = await SmallDisk.make(t);
    const first = await prepared(disk, disk.run);
    await first.end(signal);
    if (lost !== null) disk.lose(lost);
    disk.fill();
    const service = await start(disk, disk.run);
    t.equal((await ready(service)).status, 200, name);
    for (const path of ["/v1/maps", "/v1/sessions", "/v1/events?limit=2", "/metrics"])
      t.equal((await ask(service.url, "GET", path)).status, 200, `${name}: ${path}`);
    // A read leaves an event, for which there may be no room either.
    const asked = [
      "/v1/maps/1/elements/01000000",
      "/v1/maps/1/elements/01000000?at=20",
      "/v1/events?map=1&limit=2",
      "/checkpoint",
    ];
    for (const path of asked) {
      const { status, text } = await ask(service.url, "GET", path);
      // Of a file of SQLite's that would not grow, SQLite says no more than that there was an error.
      const isTold = status === 507 || (status === 503 && text.includes("part-failed"));
      t.ok(status === 200 || isTold, `${name}: ${path}: ${status} ${text.slice(0, 200)}`);
    }
    disk.fill();
    let full = await put(service, 1, 2);
    for (let key = 2; full.status === 200; key++) full = await put(service, key, key);
    t.match(full.body, { status: 507, detail: /nothing was changed/ }, name);
    disk.empty();
    t.equal((await put(service, 1, 3)).status, 200, `${name}: with room again`);
    await isWhole(t, service, (key) => (key === 1 ? 3 : key), `${name}: with room again`);
    t.equal(await service.end("SIGTERM"), 0);
    const again = await start(disk, disk.run);
    await isWhole(t, again, (key) => (key === 1 ? 3 : key), `${name}, and a restart`);
    await again.end("SIGTERM");
  }
});
