import { execFileSync } from "node:child_process";

/**
 * One end of the cable, in a network namespace of its own: a process that does what its parent asks, one thing after the
 * other, and ends with its parent; the namespace, the cable and the program at it go with the process.
 */
export function serve(answers: Readonly<Record<string, (argument: string) => unknown>>): void {
  // Ctrl-C goes to all processes at once: the parent says when it is over.
  process.on("SIGINT", () => {});
  process.on("disconnect", () => process.exit());
  process.on("message", async ({ ask, argument }: { ask: string; argument: string }) => {
    try {
      process.send?.({ answer: (await answers[ask]?.(argument)) ?? null });
    } catch (error) {
      process.send?.({ error: (error as Error).message });
    }
  });
  process.send?.({ answer: "up" });
}

/** Throws what it said where it fails. */
export function ip(...args: readonly string[]): string {
  return execFileSync("ip", args, { encoding: "utf8", stdio: "pipe" });
}
