import { CMD } from "../../src/abi/service.ts";
import type { CreateAttr, Host } from "../../src/maps/map.ts";
import type { ElementCommand, Origin } from "../../src/syscall/command.ts";

/** A machine as small as the transcripts': two CPUs, one node, the loopback interface. */
export const HOST: Host = {
  possibleCpus: 2,
  pageBytes: 4096,
  memoryBytes: 8 * 1024 ** 3,
  onlineNodes: [0],
  ifindexes: [1],
};

/** BPF_MAP_CREATE of a hash of 4-byte keys and 8-byte values, but for what is given. */
export function createAttr(given: Partial<CreateAttr>): CreateAttr {
  return {
    mapType: 1,
    keySize: 4,
    valueSize: 8,
    maxEntries: 10,
    mapFlags: 0,
    innerMapFd: 0,
    numaNode: 0,
    mapName: Buffer.alloc(16),
    mapIfindex: 0,
    btfFd: 0,
    btfKeyTypeId: 0,
    btfValueTypeId: 0,
    btfVmlinuxValueTypeId: 0,
    mapExtra: 0n,
    valueTypeBtfObjFd: 0,
    mapTokenFd: 0,
    exclProgHash: null,
    exclProgHashSize: 0,
    ...given,
  };
}

/** A lookup through fd 3 of session 1, at a time that ascends with `seq`. */
export function lookupCommand(caller: string, seq: number): ElementCommand & Origin {
  const key = Buffer.alloc(4);
  key.writeUInt32LE(seq);
  const target = { by: "fd", fd: 3 } as const;
  return { session: 1, caller, timeUs: seq * 1000, cmd: CMD.BPF_MAP_LOOKUP_ELEM, target, key, value: null, flags: 0n };
}
