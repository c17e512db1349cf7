import { readFileSync, writeFileSync } from "node:fs";
import { compatibilityPage } from "./compatibility_page.ts";

/** Writes COMPATIBILITY.md; with --check, fails where the committed one is another. */
const FILE = new URL("../COMPATIBILITY.md", import.meta.url);
const page = compatibilityPage();
if (!process.argv.includes("--check")) writeFileSync(FILE, page);
else if (readFileSync(FILE, "utf8") !== page) {
  process.stderr.write("COMPATIBILITY.md is not what the service answers: run npm run compatibility\n");
  process.exitCode = 1;
}
