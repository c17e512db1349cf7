import { mkdirSync, rmSync } from "node:fs";
import { BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { hash, u32 } from "./mirror.ts";

/** Makes and removes maps, programs, pins and directories on a bpffs until it is killed; says so once it does. */
const [directory] = process.argv.slice(2) as [string];
const bpf = openBpf() as Bpf;
const RETURN_0 = Buffer.from("b7000000000000009500000000000000", "hex");
const NAMES = 40;

for (let round = 0; ; round++) {
  const map = bpf.create(hash);
  const program = bpf.loadProgram(1, 0, RETURN_0);
  const outer = bpf.create(
    { ...hash, type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS, valueSize: 4 },
    { innerMapFd: map, btfFd: 0, btfKeyTypeId: 0, btfValueTypeId: 0 },
  );
  bpf.update(outer, u32(0), u32(map));
  for (let name = 0; name < NAMES; name++) {
    const path = `${directory}/n${name}`;
    rmSync(path, { recursive: true, force: true });
    // What was a pin is a directory the next time, and the other way round.
    if ((name + round) % 3 === 0) {
      mkdirSync(path);
      bpf.pin(map, `${path}/pin`);
    } else bpf.pin((name + round) % 3 === 1 ? map : program, path);
  }
  for (const fd of [outer, program, map]) bpf.close(fd);
  if (round === 0) console.log("going");
}
