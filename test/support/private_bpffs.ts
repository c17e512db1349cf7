import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Test } from "tap";

type Teardown = Pick<Test, "teardown">;

/** A bpffs of the test's own, at `below` in a temporary directory. */
export function privateBpffs(t: Teardown, below = "bpf"): string {
  const base = mkdtempSync(join(tmpdir(), "mapledger-bpffs-"));
  const point = join(base, below);
  mkdirSync(point);
  t.teardown(() => rmSync(base, { recursive: true }));
  mount(t, ["-t", "bpf", "bpf", point]);
  return point;
}

/** A directory of another bpffs, or all of it, at one more path. */
export function bindMount(t: Teardown, from: string, at: string): string {
  mkdirSync(at, { recursive: true });
  t.teardown(() => rmSync(at, { recursive: true }));
  mount(t, ["--bind", from, at]);
  return at;
}

/** Beside a mount point. */
export function beside(point: string, name: string): string {
  return join(dirname(point), name);
}

function mount(t: Teardown, args: readonly string[]): void {
  execFileSync("mount", args);
  // Teardowns run last first. Somebody may be looking at it.
  t.teardown(() => execFileSync("umount", ["-l", args.at(-1) as string]));
}
