// This file and its imports are JavaScript, as those of cli/mapledger.js are.
import { useCompileCache } from "./files/compile_cache.js";

useCompileCache();
await import("./service/process.ts");
