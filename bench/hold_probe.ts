import { writeFileSync } from "node:fs";
import { isMainThread } from "node:worker_threads";

// Loaded into the service before its own modules: measures the most CPU that its main thread takes for one thing. A timer that is
// due each millisecond comes late by that; what other processes take of the machine meanwhile does not count.

const US_PER_MS = 1000;

if (isMainThread) {
  const usedUs = (): number => {
    const { user, system } = process.threadCpuUsage();
    return user + system;
  };
  let before = usedUs();
  let mostUs = 0;
  setInterval(() => {
    const now = usedUs();
    mostUs = Math.max(mostUs, now - before);
    before = now;
  }, 1).unref();
  process.on("SIGUSR2", () => {
    writeFileSync(process.env.HOLD_PROBE_FILE as string, JSON.stringify(mostUs / US_PER_MS));
    mostUs = 0;
  });
}
