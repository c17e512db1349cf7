import { readFileSync, writeFileSync } from "node:fs";
import { manPage } from "../src/cli/bpftool/man_page.ts";
import { OWN_COMMANDS } from "../src/cli/subcommands.ts";
import { VERSION } from "../src/version.ts";

/** Writes the man page that the tree of commands makes; with --check, fails where the committed one is another. */

const FILE = new URL("../docs/mapledger.1", import.meta.url);

const page = manPage({ version: VERSION, others: OWN_COMMANDS });
if (!process.argv.includes("--check")) writeFileSync(FILE, page);
else if (readFileSync(FILE, "utf8") !== page) {
  process.stderr.write("docs/mapledger.1 is not what the commands say: run npm run man\n");
  process.exitCode = 1;
}
