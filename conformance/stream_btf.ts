/**
 * The BTF of random streams, as the transcripts have it:
 *
 *     1 u32   2 u64   3 struct bpf_spin_lock   4 struct locked { u64 count; struct bpf_spin_lock lock; u32 rest; }
 *     5 struct bpf_timer   6 struct timed { u64 count; struct bpf_timer timer; }
 *     7 struct storage_key { u64 cgroup; u32 attach; }   8 struct prefix { u32 bits; u32 data; }
 */
export const BTF_BLOB = `${[
  "9feb010018000000",
  "00000000f8000000f80000007d000000",
  "010000000000000104000000200000000500000000000001080000004000000009000000010000040400000017000000010000000000000",
  "01b00000003000004100000002200000002000000000000002800000003000000400000002d000000010000006000000032000000020000",
  "04100000003c00000002000000000000003e00000002000000400000004000000002000004180000004600000002000000000000004c000",
  "00005000000400000005200000002000004100000005e00000002000000000000006500000001000000400000006c000000020000040800",
  "000073000000010000000000000078000000010000002000000000",
  Buffer.from(
    [
      "u32",
      "u64",
      "bpf_spin_lock",
      "val",
      "locked",
      "count",
      "lock",
      "rest",
      "bpf_timer",
      "a",
      "b",
      "timed",
      "count",
      "timer",
      "storage_key",
      "cgroup",
      "attach",
      "prefix",
      "bits",
      "data",
      "",
    ].join("\0"),
  ).toString("hex"),
].join("")}`;

const U32 = 1;
const U64 = 2;
const STORAGE_KEY = 7;
const PREFIX = 8;

export const BTF_TYPE = {
  locked: 4,
  timed: 6,

  /** The type that fits, or one that does not where there is none. */
  ofKey(isPrefix: boolean, bytes: number): number {
    if (isPrefix) return PREFIX;
    return { 4: U32, 8: U64, 16: STORAGE_KEY }[bytes] ?? U32;
  },

  ofValue(bytes: number): number {
    return bytes === 8 ? U64 : U32;
  },
} as const;
