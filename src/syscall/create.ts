/** BPF_MAP_CREATE. */

import { BPF_F, OBJ_NAME_LEN } from "../abi/bpf.ts";
import { ID_MAX } from "../abi/limits.ts";
import { Btf } from "../btf/btf.ts";
import { checkSpecial, specialFields, valueWarning } from "../btf/special_fields.ts";
import { PROG_FLAGS } from "../maps/common.ts";
import { factsOf } from "../maps/facts.ts";
import { objectAt } from "../maps/fd_object.ts";
import type { CreateAttr, Host, MapBtf, MapRecord, MapType, SpecialField } from "../maps/map.ts";
import type { MapFacts } from "../maps/map_facts.ts";
import type { BtfFacts } from "../maps/object.ts";
import { isRefusal, type Refusal, refuse } from "../maps/refusal.ts";
import { mapType } from "../maps/types.ts";
import type { CreateCommand, Origin } from "./command.ts";
import type { FdRecord } from "./fd_table.ts";
import { checkCapability, newFd } from "./guards.ts";
import { failed, type Outcome, opened } from "./outcome.ts";
import { checkQuota } from "./quota.ts";
import type { State } from "./state.ts";

type CreateCall = Origin & CreateCommand;

const ACCESS = BPF_F.BPF_F_RDONLY | BPF_F.BPF_F_WRONLY;
/** NUMA_NO_NODE */
const ANY_NODE = -1;
const HASH_BYTES = 32;

/** map_create(), kernel/bpf/syscall.c: its checks in its order, then the map's id and descriptor. */
export function createMap(state: State, command: CreateCall): Outcome {
  const { attr } = command;
  const refusal = checkCreate(state, command.session, attr);
  if (refusal !== null) return failed(refusal);
  const id = state.lastId("map") + 1;
  const map = recordOf(state, command, id);
  const over = checkValueBytes(map, state.host) ?? checkQuotas(state, command.caller, map);
  if (over !== null) return failed(over);
  if (id > ID_MAX) return failed(refuse("ENOSPC", `every id up to ${ID_MAX} has been used`));
  const fd = newFd(state, command.session);
  if (isRefusal(fd)) {
    state.usedId("map", id);
    return failed(fd, 0, { map_id: id });
  }
  make(state, command, id, fd);
  return opened(fd, id, { map_id: id });
}

/**
 * Refuses values larger than MAPLEDGER_VALUE_MAX: a value is written in one go, during which everything else waits.
 * Adopted kernel maps exist already, and are accepted.
 */
function checkValueBytes(map: MapRecord, host: Host): Refusal | null {
  const bytes = (mapType(map.type) as MapType).valueBytes(map, host);
  const { valueBytesMax = bytes } = host;
  return bytes > valueBytesMax && map.adopted === undefined
    ? refuse("E2BIG", `a value has ${bytes} bytes: more than the ${valueBytesMax} that MAPLEDGER_VALUE_MAX allows`)
    : null;
}

/** Memory is checked first, because map_create() allocates it first. */
function checkQuotas(state: State, caller: string, map: MapRecord): Refusal | null {
  const { bytes, kernelBytes } = state.charges.ofMap(map, 0);
  return (
    checkQuota(state.charges, caller, "kernel_bytes", kernelBytes) ??
    checkQuota(state.charges, caller, "bytes", bytes) ??
    checkQuota(state.charges, caller, "maps", 1)
  );
}

/** Replays a creation's event. A creation without a free descriptor has used up an id. */
export function redoCreate(state: State, command: CreateCall, outcome: Outcome): void {
  const id = outcome.out?.map_id;
  if (id === undefined) return;
  if (outcome.errno === 0) make(state, command, id, outcome.ret);
  else state.usedId("map", id);
}

function make(state: State, command: CreateCall, id: number, fd: number): void {
  state.createMap(recordOf(state, command, id));
  state.openFd(command.session, fd, mapFile(state, id, command.attr.mapFlags));
}

/** A new open file of a map; BPF_F_RDONLY and BPF_F_WRONLY limit its access. */
export function mapFile(state: State, map: number, flags: number): FdRecord {
  return {
    kind: "map",
    file: state.lastId("file") + 1,
    map,
    object: 0,
    readable: (flags & BPF_F.BPF_F_WRONLY) === 0,
    writable: (flags & BPF_F.BPF_F_RDONLY) === 0,
  };
}

function recordOf(state: State, { attr, session, caller }: CreateCall, id: number): MapRecord {
  const type = mapType(attr.mapType) as MapType;
  return {
    id,
    type: attr.mapType,
    keySize: attr.keySize,
    valueSize: attr.valueSize,
    maxEntries: attr.maxEntries,
    mapFlags: attr.mapFlags & ~(ACCESS | BPF_F.BPF_F_TOKEN_FD),
    name: nameOf(attr.mapName),
    mapExtra: attr.mapExtra,
    numaNode: (attr.mapFlags & BPF_F.BPF_F_NUMA_NODE) === 0 ? ANY_NODE : attr.numaNode,
    frozen: false,
    exclusive: attr.exclProgHash !== null,
    inner: null,
    owner: null,
    creator: caller,
    ...(attr.adopted === undefined ? {} : { adopted: attr.adopted }),
    ...(attr.adoptedPin === undefined ? {} : { adoptedPin: attr.adoptedPin }),
    ...(attr.onReplace === undefined ? {} : { onReplace: attr.onReplace }),
    ...(attr.mirrorShape === undefined ? {} : { mirrorShape: attr.mirrorShape }),
    ...btfOf(state, session, attr),
    ...type.recorded(attr, state.host, { world: state, session }),
  };
}

function checkCreate(state: State, session: number, attr: CreateAttr): Refusal | null {
  return (
    checkCommon(attr, state.host) ??
    checkType(state, session, attr) ??
    checkName(attr.mapName) ??
    checkBtf(state, session, attr) ??
    checkExclusive(attr)
  );
}

function checkCommon(attr: CreateAttr, host: Host): Refusal | null {
  const facts = factsOf(attr.mapType);
  if (attr.btfVmlinuxValueTypeId !== 0) {
    if (facts?.kernelStruct !== true)
      return refuse("EINVAL", "btf_vmlinux_value_type_id is only allowed for BPF_MAP_TYPE_STRUCT_OPS");
    if (attr.btfKeyTypeId !== 0 || attr.btfValueTypeId !== 0)
      return refuse("EINVAL", "btf_vmlinux_value_type_id excludes btf_key_type_id and btf_value_type_id");
  } else if (attr.btfKeyTypeId !== 0 && attr.btfValueTypeId === 0) {
    return refuse("EINVAL", "btf_key_type_id without btf_value_type_id");
  }
  if (attr.mapExtra !== 0n && facts?.mapExtra !== true)
    return refuse("EINVAL", "map_extra is only allowed for BPF_MAP_TYPE_BLOOM_FILTER and BPF_MAP_TYPE_ARENA");
  if ((attr.mapFlags & ACCESS) === ACCESS) return refuse("EINVAL", "BPF_F_RDONLY excludes BPF_F_WRONLY");
  if ((attr.mapFlags & BPF_F.BPF_F_NUMA_NODE) !== 0 && !isNode(attr.numaNode, host))
    return refuse("EINVAL", `numa_node ${attr.numaNode} is not online`);
  return null;
}

function isNode(node: number, host: Host): boolean {
  return node === ANY_NODE || host.onlineNodes.includes(node);
}

function checkType(state: State, session: number, attr: CreateAttr): Refusal | null {
  const { host } = state;
  const type = mapType(attr.mapType);
  if (type === undefined) return refuse("EINVAL", `map_type ${attr.mapType} is unknown`);
  // The kernel clears TOKEN_FD before the type's checks.
  const { capability } = type.facts;
  const seen = { ...attr, mapFlags: attr.mapFlags & ~BPF_F.BPF_F_TOKEN_FD };
  const refusal =
    checkSeed(state, session, attr, type.facts) ??
    type.allocCheck(seen, host) ??
    checkToken(state, session, attr) ??
    checkCapability(state, session, "CAP_BPF", "making maps") ??
    (capability === null ? null : checkCapability(state, session, capability, "making such maps"));
  if (refusal !== null) return refusal;
  if (attr.mapIfindex !== 0) return checkOffload(state, session, attr, type.facts);
  return type.alloc(seen, host, { world: state, session }) ?? checkMemory(type.allocatedBytes(seen, host), host);
}

/** Checks BPF_F_ZERO_SEED before all other checks of a hash, except the value size of a map of maps. */
function checkSeed(
  state: State,
  session: number,
  { mapFlags, valueSize }: CreateAttr,
  { seeded, value }: MapFacts,
): Refusal | null {
  if ((mapFlags & BPF_F.BPF_F_ZERO_SEED) === 0 || !seeded) return null;
  if (value !== null && valueSize !== value.bytes) return null;
  return checkCapability(state, session, "CAP_SYS_ADMIN", "BPF_F_ZERO_SEED");
}

function checkMemory(bytes: number, { memoryBytes }: Host): Refusal | null {
  return bytes > memoryBytes
    ? refuse("ENOMEM", `the map needs ${bytes} bytes of memory: the machine has ${memoryBytes}`)
    : null;
}

function checkToken(state: State, session: number, attr: CreateAttr): Refusal | null {
  if ((attr.mapFlags & BPF_F.BPF_F_TOKEN_FD) === 0) return null;
  if (state.fd(session, attr.mapTokenFd) === undefined)
    return refuse("EBADF", `map_token_fd ${attr.mapTokenFd} is not open`);
  return refuse("EINVAL", `map_token_fd ${attr.mapTokenFd} is not a token`);
}

/** bpf_map_offload_map_alloc(), kernel/bpf/offload.c. */
function checkOffload(state: State, session: number, attr: CreateAttr, { offload }: MapFacts): Refusal {
  const refusal = checkCapability(state, session, "CAP_SYS_ADMIN", "offloading maps");
  if (refusal !== null) return refusal;
  if (!offload) return refuse("EINVAL", "map_ifindex: only BPF_MAP_TYPE_HASH and BPF_MAP_TYPE_ARRAY can be offloaded");
  if (!state.hasInterface(attr.mapIfindex))
    return refuse("EINVAL", `map_ifindex ${attr.mapIfindex}: no interface has this index`);
  return refuse("EOPNOTSUPP", `map_ifindex ${attr.mapIfindex}: the interface does not offload maps`);
}

/** bpf_obj_name_cpy(): its isalnum() is that of Latin-1, and bytes after the first NUL are not checked. */
function checkName(name: Buffer): Refusal | null {
  const end = name.indexOf(0);
  if (end === -1 || end >= OBJ_NAME_LEN) return refuse("EINVAL", `map_name is longer than ${OBJ_NAME_LEN - 1} bytes`);
  for (const byte of name.subarray(0, end))
    if (!isNameByte(byte))
      return refuse("EINVAL", `map_name has byte 0x${byte.toString(16)}: letters, digits, "_" and "." are allowed`);
  return null;
}

function isNameByte(byte: number): boolean {
  const char = String.fromCharCode(byte);
  return /[A-Za-z0-9_.]/.test(char) || (byte >= 0xc0 && byte !== 0xd7 && byte !== 0xf7);
}

function nameOf(name: Buffer): string {
  return name.toString("latin1", 0, name.indexOf(0));
}

/** map_check_btf(), and its caller's checks in map_create(). */
function checkBtf(state: State, session: number, attr: CreateAttr): Refusal | null {
  if (attr.btfKeyTypeId === 0 && attr.btfValueTypeId === 0 && attr.btfVmlinuxValueTypeId === 0) return null;
  const btf = btfAt(state, session, attr.btfFd);
  if (isRefusal(btf)) return btf;
  const type = mapType(attr.mapType) as MapType;
  const key = attr.btfKeyTypeId === 0 ? undefined : btf.type(attr.btfKeyTypeId);
  if (attr.btfKeyTypeId !== 0 && key?.size !== attr.keySize)
    return refuse("EINVAL", `btf_key_type_id ${attr.btfKeyTypeId}: not a type of ${attr.keySize} bytes`);
  if (key === undefined && type.checkBtf === null) return refuse("EINVAL", "btf_value_type_id without btf_key_type_id");
  const value = btf.type(attr.btfValueTypeId);
  if (value?.size !== attr.valueSize)
    return refuse("EINVAL", `btf_value_type_id ${attr.btfValueTypeId}: not a type of ${attr.valueSize} bytes`);
  const warned = valueWarning(btf, value.id);
  if (warned !== null) return warned;
  const special = specialFields(btf, value.id);
  if (special.length > 0 && (attr.mapFlags & PROG_FLAGS) !== 0)
    return refuse("EACCES", `a ${special[0]?.kind} in the value excludes BPF_F_RDONLY_PROG and BPF_F_WRONLY_PROG`);
  return checkSpecial(type.facts.special, special) ?? type.checkBtf?.(attr, key, value) ?? null;
}

function btfAt(state: State, session: number, fd: number): Btf | Refusal {
  const found = objectAt({ world: state, session }, fd, "btf", "EINVAL");
  if (isRefusal(found)) return refuse(found.errno, `btf_fd: ${found.detail}`);
  return Btf.parse(Buffer.from(found.data, "hex"));
}

/** The BTF and special fields for the record of a map whose attr has been checked. */
function btfOf(
  state: State,
  session: number,
  attr: CreateAttr,
): { btf: MapBtf | null; special: readonly SpecialField[] } {
  if (attr.btfValueTypeId === 0) return { btf: null, special: [] };
  const { btfId } = objectAt({ world: state, session }, attr.btfFd, "btf", "EINVAL") as BtfFacts;
  const btf = btfAt(state, session, attr.btfFd) as Btf;
  const value = btf.type(attr.btfValueTypeId);
  return {
    btf: { btfId, keyTypeId: attr.btfKeyTypeId, valueTypeId: attr.btfValueTypeId },
    special: specialFields(btf, value?.id ?? 0),
  };
}

function checkExclusive(attr: CreateAttr): Refusal | null {
  if (attr.exclProgHash === null && attr.exclProgHashSize === 0) return null;
  if (attr.exclProgHash === null || attr.exclProgHashSize !== HASH_BYTES)
    return refuse("EINVAL", `excl_prog_hash and an excl_prog_hash_size of ${HASH_BYTES} must come together`);
  if (attr.exclProgHash.length < HASH_BYTES)
    return refuse("EFAULT", `excl_prog_hash has ${attr.exclProgHash.length} bytes: the command reads ${HASH_BYTES}`);
  return null;
}
