import { closeSync, openSync, readdirSync, readFileSync } from "node:fs";
import koffi from "koffi";

/** prlimit64(2), which takes no descriptor; struct rlimit64 is u64 rlim_cur, rlim_max. */
const PRLIMIT64: Partial<Record<NodeJS.Architecture, number>> = { x64: 302, arm64: 261 };
const RLIMIT_NOFILE = 7;
const syscall = koffi.load("libc.so.6").func("long syscall(long, int, int, const uint8_t *, void *)");

interface Limits {
  readonly soft: number;
  readonly hard: number;
}

function limitsOf(pid: number): Limits {
  const found = /^Max open files +(\d+) +(\d+)/m.exec(readFileSync(`/proc/${pid}/limits`, "utf8"));
  return { soft: Number(found?.[1]), hard: Number(found?.[2]) };
}

function setLimits(pid: number, { soft, hard }: Limits): void {
  const rlimit = Buffer.alloc(16);
  rlimit.writeBigUInt64LE(BigInt(soft), 0);
  rlimit.writeBigUInt64LE(BigInt(hard), 8);
  const ret = syscall(PRLIMIT64[process.arch], pid, RLIMIT_NOFILE, rlimit, null);
  if (ret !== 0) throw new Error(`prlimit(2): ${ret}`);
}

/** Runs something while this process can open no descriptor, or so many: EMFILE. */
export function withoutDescriptors<Answer>(run: () => Answer, but = 0): Answer {
  const giveBack = takeOwnDescriptors(but);
  try {
    return run();
  } finally {
    giveBack();
  }
}

/** The same from now on, until the function that is answered is called. */
export function takeOwnDescriptors(but = 0): () => void {
  const limits = limitsOf(process.pid);
  setLimits(process.pid, { ...limits, soft: ownFree() + but });
  return () => setLimits(process.pid, limits);
}

/** From now on another process can open no descriptor beside those that it has, until the function that is answered is called. */
export function takeDescriptors(pid: number): () => void {
  const limits = limitsOf(pid);
  const open = new Set(readdirSync(`/proc/${pid}/fd`).map(Number));
  let free = 0;
  while (open.has(free)) free++;
  setLimits(pid, { ...limits, soft: free });
  return () => setLimits(pid, limits);
}

/** The lowest descriptor of this process that is free. */
function ownFree(): number {
  const free = openSync("/dev/null", "r");
  closeSync(free);
  return free;
}
