import t from "tap";
import { BPF_CMD } from "../../src/abi/bpf.ts";
import { ERRNO } from "../../src/abi/errno.ts";
import { Bpf } from "../../src/native/bpf.ts";

/** bpf(2) of a kernel that refuses the first calls. */
function refusing(errno: number, refusals: number): { readonly bpf: Bpf; readonly calls: () => number } {
  let calls = 0;
  const syscall = () => (++calls <= refusals ? -1 : 0);
  const libc = { func: (prototype: string) => (prototype.includes("long cmd") ? syscall : () => 0) };
  const koffi = { load: () => libc, errno: () => errno, address: () => 0n };
  return { bpf: new Bpf(koffi as unknown as typeof import("koffi"), 321), calls: () => calls };
}

const FOUR = Buffer.alloc(4);

t.test("what lost to another change is tried again", async (t) => {
  for (const ask of [
    (bpf: Bpf) => bpf.update(3, FOUR, FOUR),
    (bpf: Bpf) => bpf.bpf(BPF_CMD.BPF_MAP_UPDATE_ELEM, Buffer.alloc(32)),
    (bpf: Bpf) => bpf.bpfAt(BPF_CMD.BPF_MAP_UPDATE_ELEM, 0n, 32),
  ]) {
    const { bpf, calls } = refusing(ERRNO.EAGAIN, 3);
    t.equal(ask(bpf), 0);
    t.equal(calls(), 4);
  }
});

t.test("what goes on losing is answered EAGAIN", async (t) => {
  const { bpf } = refusing(ERRNO.EAGAIN, Number.POSITIVE_INFINITY);
  t.equal(bpf.update(3, FOUR, FOUR), -ERRNO.EAGAIN);
});

t.test("a batch that has lost is answered at once: its attr says by now how far it came", async (t) => {
  const { bpf, calls } = refusing(ERRNO.EAGAIN, 1);
  t.equal(bpf.updateBatch(3, FOUR, FOUR, 1), -ERRNO.EAGAIN);
  t.equal(calls(), 1);
});

t.test("any other refusal is the answer", async (t) => {
  const { bpf, calls } = refusing(ERRNO.EBUSY, 1);
  t.equal(bpf.update(3, FOUR, FOUR), -ERRNO.EBUSY);
  t.equal(calls(), 1);
});
