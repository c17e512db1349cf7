import { createHash } from "node:crypto";
import { BTF_INFO_BYTES, MAP_INFO, MAP_INFO_BYTES, MAP_INFO_TAIL_BYTES } from "../abi/bpf.ts";
import { INFO_BYTES_MAX } from "../abi/limits.ts";
import { memory } from "../maps/array.ts";
import type { MapRecord } from "../maps/map.ts";
import { isRefusal, type Refusal, refuse } from "../maps/refusal.ts";
import { btfInfo } from "./btf.ts";
import type { InfoCommand, Origin } from "./command.ts";
import { openMap } from "./guards.ts";
import type { OpenMap } from "./open_map.ts";
import { done, failed, type Outcome } from "./outcome.ts";
import type { State } from "./state.ts";

const DIGEST_BYTES = 32;

/** bpf_obj_get_info_by_fd(), kernel/bpf/syscall.c, of maps and of BTF. */
export function getInfo(state: State, command: Origin & InfoCommand): Outcome {
  const { target, session } = command;
  const file = target.by === "fd" ? state.fd(session, target.fd) : undefined;
  const object = file?.kind === "btf" ? state.object(file.object) : undefined;
  if (object?.kind !== "btf") return getMapInfo(state, command);
  const info = readInfo(command, BTF_INFO_BYTES, BTF_INFO_BYTES);
  return isRefusal(info) ? failed(info) : btfInfo(object, info, Math.min(command.attr.infoLen, BTF_INFO_BYTES));
}

/**
 * bpf_map_get_info_by_fd(), kernel/bpf/syscall.c. The buffer is an input, too: fields that do not apply keep the
 * caller's bytes, and `hash` with `hash_size` request a SHA-256 of a frozen array's contents.
 */
function getMapInfo(state: State, command: Origin & InfoCommand): Outcome {
  const { infoLen } = command.attr;
  const map = openMap(state, command, command.target);
  if (isRefusal(map)) return failed(map.errno === "EBADF" ? refuse("EBADFD", map.detail) : map);
  const info = readInfo(command, MAP_INFO_BYTES, MAP_INFO_TAIL_BYTES);
  if (isRefusal(info)) return failed(info, map.map.id);
  const length = Math.min(infoLen, MAP_INFO_BYTES);
  writeInfo(info, map.map);
  const hash = digest(map, info);
  if (isRefusal(hash)) return failed(hash, map.map.id);
  const out = hash === null ? { info_len: length } : { info_len: length, hash };
  return done(map.map.id, info.subarray(0, length), out);
}

/**
 * bpf_check_uarg_tail_zero(), then the copy of the bytes before the tail. Returns a struct of `size` bytes; the caller's
 * buffer must be zero from byte `tail` on.
 */
function readInfo({ value, attr: { infoLen } }: InfoCommand, size: number, tail: number): Buffer | Refusal {
  const buffer = value ?? Buffer.alloc(Math.min(infoLen, INFO_BYTES_MAX));
  if (infoLen > INFO_BYTES_MAX) return refuse("E2BIG", `info_len is ${infoLen}: more than ${INFO_BYTES_MAX}`);
  // The kernel reads the tail first, so E2BIG comes before EFAULT.
  for (let at = tail; at < Math.min(infoLen, buffer.length); at++)
    if (buffer[at] !== 0) return refuse("E2BIG", `info is not 0 at byte ${at}: bytes from ${tail} on must be 0`);
  if (buffer.length < infoLen) return refuse("EFAULT", `info has ${buffer.length} bytes: info_len is ${infoLen}`);
  const info = Buffer.alloc(size);
  buffer.copy(info, 0, 0, Math.min(infoLen, size));
  return info;
}

function writeInfo(info: Buffer, map: MapRecord): void {
  info.writeUInt32LE(map.type, MAP_INFO.type);
  info.writeUInt32LE(map.id, MAP_INFO.id);
  info.writeUInt32LE(map.keySize, MAP_INFO.key_size);
  info.writeUInt32LE(map.valueSize, MAP_INFO.value_size);
  info.writeUInt32LE(map.maxEntries, MAP_INFO.max_entries);
  info.writeUInt32LE(map.mapFlags >>> 0, MAP_INFO.map_flags);
  info.fill(0, MAP_INFO.name, MAP_INFO.ifindex);
  info.write(map.name, MAP_INFO.name, "latin1");
  info.writeUInt32LE(0, MAP_INFO.btf_vmlinux_value_type_id);
  if (map.btf !== null) {
    info.writeUInt32LE(map.btf.btfId, MAP_INFO.btf_id);
    info.writeUInt32LE(map.btf.keyTypeId, MAP_INFO.btf_key_type_id);
    info.writeUInt32LE(map.btf.valueTypeId, MAP_INFO.btf_value_type_id);
  }
  info.writeBigUInt64LE(map.mapExtra, MAP_INFO.map_extra);
}

/** The digest in hex; null: not requested. */
function digest(map: OpenMap, info: Buffer): string | null | Refusal {
  const pointer = info.readBigUInt64LE(MAP_INFO.hash);
  const size = info.readUInt32LE(MAP_INFO.hash_size);
  if (pointer === 0n && size === 0) return null;
  if (pointer === 0n || size !== DIGEST_BYTES)
    return refuse("EINVAL", `hash and a hash_size of ${DIGEST_BYTES} must come together`);
  if (!map.type.facts.digest)
    return refuse("EINVAL", "hash is only allowed for arrays: other map types have no digest");
  if (!map.map.frozen) return refuse("EPERM", "the map is not frozen: only a frozen array has a digest");
  const sha = createHash("sha256");
  for (const bytes of memory(map)) sha.update(bytes);
  return sha.digest("hex");
}
