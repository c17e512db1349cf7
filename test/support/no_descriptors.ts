import { readFileSync } from "node:fs";
import type { Bpf } from "../../src/mirror/bpf.ts";

/** prlimit64(2), which takes no descriptor; struct rlimit64 is u64 rlim_cur, rlim_max. */
const PRLIMIT64: Partial<Record<NodeJS.Architecture, number>> = { x64: 302, arm64: 261 };
const RLIMIT_NOFILE = 7n;

/** Runs something while this process can open no descriptor: EMFILE. */
export function withoutDescriptors<Answer>(bpf: Bpf, run: () => Answer): Answer {
  const limits = /^Max open files +(\d+) +(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"));
  const [soft, hard] = [Number(limits?.[1]), Number(limits?.[2])];
  const limit = (descriptors: number): void => {
    const rlimit = Buffer.alloc(16);
    rlimit.writeBigUInt64LE(BigInt(descriptors), 0);
    rlimit.writeBigUInt64LE(BigInt(hard), 8);
    const ret = bpf.libc("syscall", PRLIMIT64[process.arch] as number, 0, RLIMIT_NOFILE, bpf.address(rlimit), 0, 0);
    if (ret !== 0 || rlimit.length === 0) throw new Error(`prlimit(2): ${ret}`);
  };
  limit(3);
  try {
    return run();
  } finally {
    limit(soft);
  }
}
