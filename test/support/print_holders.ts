import { holdersNow } from "../../src/mirror/holders.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";

/** Who holds a kernel map, in the mount namespace of this process. */
const scan = holdersNow(openBpf() as Bpf);
console.log(JSON.stringify({ ...scan.of(Number(process.argv[2])), unknown: scan.unknown }));
