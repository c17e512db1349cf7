/**
 * The syscall door, POST /v1/sessions/{id}/bpf: JSON with the fields of union bpf_attr to commands, and outcomes to
 * JSON.
 */

import {
  attrEnd,
  BATCH_FIELDS,
  BPF_ATTR_BYTES,
  BPF_ATTR_BYTES_MAX,
  BTF_FIELDS,
  BTF_ID_FIELDS,
  CREATE_FIELDS,
  ELEMENT_FIELDS,
  type FieldKind,
  fieldNames,
  ID_FIELDS,
  INFO_FIELDS,
  PATH_FIELDS,
  readAttr,
} from "../abi/attr.ts";
import { BPF_CMD, OBJ_NAME_LEN } from "../abi/bpf.ts";
import { errnoName } from "../abi/errno.ts";
import { CMD, cmdName, UNKNOWN_CMD } from "../abi/service.ts";
import { isLru } from "../maps/facts.ts";
import type { CreateAttr } from "../maps/map.ts";
import type { Action, Target, UnknownCommand } from "../syscall/command.ts";
import type { Outcome } from "../syscall/outcome.ts";
import { InvalidInput } from "./invalid.ts";
import { pointer, s32, text, u32, u64 } from "./scalars.ts";

/** The body of the syscall door: `cmd` by name or number, `attr` with the command's part of union bpf_attr. */
export interface DoorRequest {
  readonly cmd: string | number;
  readonly attr?: Attr;
  /** bpf(2)'s third argument, if it is larger than the attr. */
  readonly size?: number;
  /** Bytes after the command's last field. */
  readonly tail?: Buffer;
}

export interface DoorAnswer {
  readonly ret: number;
  readonly errno: string | null;
  readonly seq: number;
  /** The fields that the kernel would have written. */
  readonly attr: DoorAttr;
  readonly detail?: string;
}

export interface DoorAttr {
  readonly value?: string;
  readonly next_key?: string;
  readonly next_id?: number;
  readonly keys?: string;
  readonly values?: string;
  readonly out_batch?: string;
  readonly count?: number;
  readonly info?: string;
  readonly info_len?: number;
  readonly hash?: string;
  /** The bytes at the pointers `btf` and `name` of struct bpf_btf_info. */
  readonly btf?: string;
  readonly name?: string;
}

type Attr = Readonly<Record<string, unknown>>;

/** Reads a request of the syscall door. Throws InvalidInput if it is not well-formed. */
export function readDoor({ cmd, attr = {}, size = 0, tail }: DoorRequest): Action {
  const number = typeof cmd === "number" ? cmd : bpfCmd(cmd);
  const fault = sizeFault(size) ?? (tail === undefined ? null : tailFault(number, tail));
  if (fault !== null) return { cmd: UNKNOWN_CMD, number: number ?? UNKNOWN_CMD, name: String(cmd), fault };
  switch (number) {
    case CMD.BPF_MAP_LOOKUP_ELEM:
    case CMD.BPF_MAP_UPDATE_ELEM:
    case CMD.BPF_MAP_DELETE_ELEM:
    case CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM:
    case CMD.BPF_MAP_GET_NEXT_KEY:
    case CMD.BPF_MAP_FREEZE:
      checkFields(attr, fieldNames(ELEMENT_FIELDS));
      return {
        cmd: number,
        target: fdTarget(attr, "map_fd"),
        key: pointer(attr.key, "attr.key"),
        value: valueOrNextKey(attr),
        flags: u64(attr.flags, "attr.flags"),
      };
    case CMD.BPF_MAP_LOOKUP_BATCH:
    case CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH:
    case CMD.BPF_MAP_UPDATE_BATCH:
    case CMD.BPF_MAP_DELETE_BATCH:
      checkFields(attr, fieldNames(BATCH_FIELDS));
      return {
        cmd: number,
        target: fdTarget(attr, "map_fd"),
        key: pointer(attr.keys, "attr.keys"),
        value: pointer(attr.values, "attr.values"),
        flags: u64(attr.flags, "attr.flags"),
        attr: {
          count: u32(attr.count, "attr.count"),
          elemFlags: u64(attr.elem_flags, "attr.elem_flags"),
          inBatch: pointer(attr.in_batch, "attr.in_batch"),
          outBatch: pointer(attr.out_batch, "attr.out_batch"),
        },
      };
    case CMD.BPF_MAP_CREATE:
      return { cmd: number, attr: readCreate(attr, "attr.") };
    case CMD.BPF_BTF_LOAD:
      checkFields(attr, fieldNames(BTF_FIELDS));
      return {
        cmd: number,
        value: pointer(attr.btf, "attr.btf"),
        attr: { btfSize: u32(attr.btf_size, "attr.btf_size") },
      };
    case CMD.BPF_OBJ_PIN:
      checkFields(attr, fieldNames(PATH_FIELDS));
      return { cmd: number, target: fdTarget(attr, "bpf_fd"), attr: readPath(attr) };
    case CMD.BPF_OBJ_GET:
      checkFields(attr, fieldNames(PATH_FIELDS));
      return { cmd: number, attr: { ...readPath(attr), bpfFd: u32(attr.bpf_fd, "attr.bpf_fd") } };
    case CMD.BPF_MAP_GET_NEXT_ID:
    case CMD.BPF_MAP_GET_FD_BY_ID: {
      checkFields(attr, fieldNames(ID_FIELDS));
      u32(attr.next_id, "attr.next_id");
      const openFlags = u32(attr.open_flags, "attr.open_flags");
      // Both names are one union member, the first u32 of the struct.
      const id = u32(attr.start_id ?? attr.map_id, attr.start_id === undefined ? "attr.map_id" : "attr.start_id");
      if (number === CMD.BPF_MAP_GET_NEXT_ID) return { cmd: number, attr: { startId: id, openFlags } };
      return { cmd: number, attr: { mapId: id, openFlags } };
    }
    case CMD.BPF_BTF_GET_NEXT_ID:
    case CMD.BPF_BTF_GET_FD_BY_ID: {
      checkFields(attr, fieldNames(BTF_ID_FIELDS));
      u32(attr.next_id, "attr.next_id");
      const openFlags = u32(attr.open_flags, "attr.open_flags");
      const fdByIdTokenFd = s32(attr.fd_by_id_token_fd, "attr.fd_by_id_token_fd");
      const id = u32(attr.start_id ?? attr.btf_id, attr.start_id === undefined ? "attr.btf_id" : "attr.start_id");
      if (number === CMD.BPF_BTF_GET_NEXT_ID) return { cmd: number, attr: { startId: id, openFlags, fdByIdTokenFd } };
      return { cmd: number, attr: { btfId: id, openFlags, fdByIdTokenFd } };
    }
    case CMD.BPF_OBJ_GET_INFO_BY_FD:
      checkFields(attr, fieldNames(INFO_FIELDS));
      return {
        cmd: number,
        target: fdTarget(attr, "bpf_fd"),
        value: pointer(attr.info, "attr.info"),
        attr: { infoLen: u32(attr.info_len, "attr.info_len") },
      };
    default:
      return { cmd: UNKNOWN_CMD, number: number ?? UNKNOWN_CMD, name: String(cmd) };
  }
}

type Fault = Required<UnknownCommand>["fault"];

function sizeFault(size: number): Fault | null {
  if (size <= BPF_ATTR_BYTES_MAX) return null;
  return { errno: "E2BIG", detail: `size is ${size}: more than ${BPF_ATTR_BYTES_MAX}` };
}

/** bpf_check_uarg_tail_zero() for the whole union, then CHECK_ATTR() for the command's part of it. */
function tailFault(number: number | undefined, tail: Buffer): Fault | null {
  const end = attrEnd((number === undefined ? undefined : cmdName(number)) ?? "");
  const beyond = tail.findLastIndex((byte) => byte !== 0);
  if (beyond === -1) return null;
  const at = end + beyond;
  if (at >= BPF_ATTR_BYTES_MAX) return { errno: "E2BIG", detail: `the attr has ${at + 1} bytes: more than are read` };
  if (at >= BPF_ATTR_BYTES) return { errno: "E2BIG", detail: `byte ${at} of the attr is not 0: no command has it` };
  return { errno: "EINVAL", detail: `byte ${at} of the attr is not 0: the command's fields end at ${end}` };
}

function bpfCmd(name: string): number | undefined {
  return Object.hasOwn(BPF_CMD, name) ? BPF_CMD[name as keyof typeof BPF_CMD] : undefined;
}

/**
 * Reads BPF_MAP_CREATE's part of union bpf_attr. `at`: a prefix for the places in errors. `besides`: further fields,
 * which the caller reads. bpf(2) cannot choose the shape of an LRU map's kernel map: it is exact.
 */
export function readCreate(attr: Attr, at: string, besides: readonly string[] = []): CreateAttr {
  checkFields(attr, [...fieldNames(CREATE_FIELDS), ...besides], at);
  const read = readAttr(CREATE_FIELDS, ({ name, kind }) => READ[kind](attr[name], `${at}${name}`));
  return isLru(read.mapType) ? { ...read, mirrorShape: "exact" } : read;
}

/** A field of each kind, of the JSON of a request; `where` names its place. */
const READ: Readonly<Record<FieldKind, (value: unknown, where: string) => unknown>> = {
  u32,
  s32,
  u64,
  fd: s32,
  char16: (value, where) => nameBytes(text(value, where) ?? ""),
  pointer,
  path: text,
};

/** char map_name[16], one byte a character. A character above U+00FF becomes "?", which no map name may contain. */
function nameBytes(name: string): Buffer {
  const bytes = Buffer.alloc(OBJ_NAME_LEN);
  bytes.write(name.replace(/[^\0-\xff]/gu, "?"), "latin1");
  return bytes;
}

/** The response of the syscall door. */
export function doorAnswer(action: Action, outcome: Outcome, seq: number): DoorAnswer {
  const answer = { ret: outcome.ret, errno: outcome.errno === 0 ? null : errnoName(outcome.errno), seq };
  const attr = answeredAttr(action, outcome);
  return outcome.detail === null ? { ...answer, attr } : { ...answer, attr, detail: outcome.detail };
}

function answeredAttr(action: Action, { key, value, out }: Outcome): DoorAttr {
  const hex = value === null ? undefined : value.toString("hex");
  switch (action.cmd) {
    case CMD.BPF_MAP_LOOKUP_ELEM:
    case CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM:
      return hex === undefined ? {} : { value: hex };
    case CMD.BPF_MAP_GET_NEXT_KEY:
      return hex === undefined ? {} : { next_key: hex };
    case CMD.BPF_OBJ_GET_INFO_BY_FD:
      return hex === undefined
        ? {}
        : { info: hex, ...infoOutputs(out), ...(key !== null && { btf: key.toString("hex") }) };
    case CMD.BPF_MAP_LOOKUP_BATCH:
    case CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH:
      return hex === undefined ? countOf(out) : { keys: key?.toString("hex") ?? "", values: hex, ...countOf(out) };
    case CMD.BPF_MAP_UPDATE_BATCH:
    case CMD.BPF_MAP_DELETE_BATCH:
      return countOf(out);
    case CMD.BPF_MAP_GET_NEXT_ID:
    case CMD.BPF_BTF_GET_NEXT_ID:
      return out?.next_id === undefined ? {} : { next_id: out.next_id };
    default:
      return {};
  }
}

function infoOutputs(out: Outcome["out"]): DoorAttr {
  const { info_len, hash, name } = out ?? {};
  return {
    ...(info_len !== undefined && { info_len }),
    ...(hash !== undefined && { hash }),
    ...(name !== undefined && { name }),
  };
}

function countOf(out: Outcome["out"]): DoorAttr {
  if (out?.count === undefined) return {};
  return out.out_batch === undefined ? { count: out.count } : { out_batch: out.out_batch, count: out.count };
}

function checkFields(attr: Attr, known: readonly string[], at = "attr."): void {
  for (const name in attr)
    if (!known.includes(name))
      throw new InvalidInput(`${at}${name}`, `the command has no such field; its fields are ${known.join(", ")}`);
}

function fdTarget(attr: Attr, field: string): Target {
  return { by: "fd", fd: s32(attr[field], `attr.${field}`) };
}

/** value and next_key are two names of one union member. */
function valueOrNextKey(attr: Attr): Buffer | null {
  if (attr.value !== undefined && attr.next_key !== undefined)
    throw new InvalidInput("attr.next_key", "value and next_key are the same field: give one of them");
  return attr.next_key === undefined ? pointer(attr.value, "attr.value") : pointer(attr.next_key, "attr.next_key");
}

function readPath(attr: Attr): { pathname: string | null; fileFlags: number; pathFd: number } {
  return {
    pathname: text(attr.pathname, "attr.pathname"),
    fileFlags: u32(attr.file_flags, "attr.file_flags"),
    pathFd: s32(attr.path_fd, "attr.path_fd"),
  };
}
