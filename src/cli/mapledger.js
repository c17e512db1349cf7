#!/usr/bin/env node
// JavaScript, and so is what it imports: until node's compile cache is on, each TypeScript file costs its own stripping.
import { enableCompileCache } from "node:module";
import { cacheDirectory } from "./cache_directory.js";

const directory = cacheDirectory();
if (directory !== null) enableCompileCache(directory);
await import("./main.ts");
