import { execFileSync } from "node:child_process";

/** WARNINGs that this process has the kernel print from now on, as far as this machine lets them be read. */
export function warningsSince(): () => string[] {
  const mount = "mount -t debugfs debugfs /sys/kernel/debug && echo 1 > /sys/kernel/debug/clear_warn_once";
  try {
    execFileSync("unshare", ["-m", "sh", "-c", mount], { stdio: "ignore" });
    execFileSync("dmesg", { stdio: "ignore" });
  } catch {
    return () => [];
  }
  const printed = (): string[] =>
    execFileSync("dmesg", { encoding: "utf8", maxBuffer: 2 ** 26 })
      .split("\n")
      .filter((line) => line.includes("WARNING:") && line.includes(`PID: ${process.pid} `));
  const before = new Set(printed());
  return () => printed().filter((line) => !before.has(line));
}
