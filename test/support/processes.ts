import type { Processes } from "../../src/engine/ports.ts";

/** For an engine whose sessions live by no process. */
export const noProcesses: Processes = { watch() {}, forget() {}, exited: () => [] };
