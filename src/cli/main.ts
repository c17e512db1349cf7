/** Decides which command line is meant: that of the service's own commands, or the one in bpftool's words. */

import { inBpftoolsWords } from "./bpftool/objects.ts";
import { OWN_WORDS } from "./subcommands.ts";

const given = process.argv.slice(2);
const words = inBpftoolsWords(given, OWN_WORDS);

if (words !== null) await (await import("./service_words.ts")).runWords(words);
else await (await import("./program.ts")).runProgram(given);
