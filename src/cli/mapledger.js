#!/usr/bin/env node
// This file and its imports are JavaScript: until node's compile cache is on, node would strip the types of each
// TypeScript file anew.
import { useCompileCache } from "../files/compile_cache.js";

useCompileCache();
await import("./main.ts");
