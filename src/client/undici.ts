import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

/** Loaded with the first connection: most services never open one, and its 109 modules took a tenth of a start. */
export const undici = (): typeof import("undici") => require("undici");
