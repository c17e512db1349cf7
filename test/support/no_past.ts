import type { PastOfMaps } from "../../src/engine/windows.ts";

/** Nobody remembers anything. */
export const noPast: PastOfMaps = { since: async () => null, stood: async () => null };
