#!/usr/bin/env node
// This file and its imports are JavaScript: until node's compile cache is on, node would strip the types of each
// TypeScript file anew.
import { enableCompileCache } from "node:module";
import { cacheDirectory } from "./cache_directory.js";

const directory = cacheDirectory();
if (directory !== null) enableCompileCache(directory);
await import("./main.ts");
