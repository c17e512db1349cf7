import { type Bpf, openBpf } from "../../src/mirror/bpf.ts";
import { holdersNow } from "../../src/mirror/holders.ts";

/** Who holds a kernel map, in the mount namespace of this process. */
const scan = holdersNow(openBpf() as Bpf);
console.log(JSON.stringify({ ...scan.of(Number(process.argv[2])), unknown: scan.unknown }));
