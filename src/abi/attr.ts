/**
 * union bpf_attr as Linux 6.18 has it, as far as commands on maps use it: its structs, field by field, and each command's struct.
 * The syscall door, the log, schemas, replays and the mirror loop over this table.
 */

import type { MapCmdName } from "./bpf.ts";

/**
 * The offset and the kind of a field. "fd": an s32 that names a descriptor; for some, 0 means none unless a flag or
 * another field says that the descriptor is used. "char16": char[16]. "pointer": the address of bytes; "path": the
 * address of a string with its NUL.
 */
export interface AttrField {
  /** As <linux/bpf.h> has it; mapledger's own name is the same in camel case. */
  readonly name: string;
  readonly field: string;
  readonly offset: number;
  readonly kind: FieldKind;
}

export type FieldKind = "u32" | "s32" | "u64" | "fd" | "char16" | "pointer" | "path";

export const CREATE_FIELDS = [
  { name: "map_type", field: "mapType", offset: 0, kind: "u32" },
  { name: "key_size", field: "keySize", offset: 4, kind: "u32" },
  { name: "value_size", field: "valueSize", offset: 8, kind: "u32" },
  { name: "max_entries", field: "maxEntries", offset: 12, kind: "u32" },
  { name: "map_flags", field: "mapFlags", offset: 16, kind: "u32" },
  { name: "inner_map_fd", field: "innerMapFd", offset: 20, kind: "fd" },
  { name: "numa_node", field: "numaNode", offset: 24, kind: "s32" },
  { name: "map_name", field: "mapName", offset: 28, kind: "char16" },
  { name: "map_ifindex", field: "mapIfindex", offset: 44, kind: "u32" },
  { name: "btf_fd", field: "btfFd", offset: 48, kind: "fd" },
  { name: "btf_key_type_id", field: "btfKeyTypeId", offset: 52, kind: "u32" },
  { name: "btf_value_type_id", field: "btfValueTypeId", offset: 56, kind: "u32" },
  { name: "btf_vmlinux_value_type_id", field: "btfVmlinuxValueTypeId", offset: 60, kind: "u32" },
  { name: "map_extra", field: "mapExtra", offset: 64, kind: "u64" },
  { name: "value_type_btf_obj_fd", field: "valueTypeBtfObjFd", offset: 72, kind: "fd" },
  { name: "map_token_fd", field: "mapTokenFd", offset: 76, kind: "fd" },
  { name: "excl_prog_hash", field: "exclProgHash", offset: 80, kind: "pointer" },
  { name: "excl_prog_hash_size", field: "exclProgHashSize", offset: 88, kind: "u32" },
] as const satisfies readonly AttrField[];

/** value and next_key are one field. */
export const ELEMENT_FIELDS = [
  { name: "map_fd", field: "mapFd", offset: 0, kind: "fd" },
  { name: "key", field: "key", offset: 8, kind: "pointer" },
  { name: "value", field: "value", offset: 16, kind: "pointer" },
  { name: "next_key", field: "nextKey", offset: 16, kind: "pointer" },
  { name: "flags", field: "flags", offset: 24, kind: "u64" },
] as const satisfies readonly AttrField[];

export const BATCH_FIELDS = [
  { name: "in_batch", field: "inBatch", offset: 0, kind: "pointer" },
  { name: "out_batch", field: "outBatch", offset: 8, kind: "pointer" },
  { name: "keys", field: "keys", offset: 16, kind: "pointer" },
  { name: "values", field: "values", offset: 24, kind: "pointer" },
  { name: "count", field: "count", offset: 32, kind: "u32" },
  { name: "map_fd", field: "mapFd", offset: 36, kind: "fd" },
  { name: "elem_flags", field: "elemFlags", offset: 40, kind: "u64" },
  { name: "flags", field: "flags", offset: 48, kind: "u64" },
] as const satisfies readonly AttrField[];

export const PATH_FIELDS = [
  { name: "pathname", field: "pathname", offset: 0, kind: "path" },
  { name: "bpf_fd", field: "bpfFd", offset: 8, kind: "fd" },
  { name: "file_flags", field: "fileFlags", offset: 12, kind: "u32" },
  { name: "path_fd", field: "pathFd", offset: 16, kind: "fd" },
] as const satisfies readonly AttrField[];

/** start_id and map_id are one field. */
export const ID_FIELDS = [
  { name: "start_id", field: "startId", offset: 0, kind: "u32" },
  { name: "map_id", field: "mapId", offset: 0, kind: "u32" },
  { name: "next_id", field: "nextId", offset: 4, kind: "u32" },
  { name: "open_flags", field: "openFlags", offset: 8, kind: "u32" },
] as const satisfies readonly AttrField[];

/** start_id and btf_id are one field. The token takes the place of CAP_SYS_ADMIN. */
export const BTF_ID_FIELDS = [
  { name: "start_id", field: "startId", offset: 0, kind: "u32" },
  { name: "btf_id", field: "btfId", offset: 0, kind: "u32" },
  { name: "next_id", field: "nextId", offset: 4, kind: "u32" },
  { name: "open_flags", field: "openFlags", offset: 8, kind: "u32" },
  { name: "fd_by_id_token_fd", field: "fdByIdTokenFd", offset: 12, kind: "fd" },
] as const satisfies readonly AttrField[];

export const INFO_FIELDS = [
  { name: "bpf_fd", field: "bpfFd", offset: 0, kind: "fd" },
  { name: "info_len", field: "infoLen", offset: 4, kind: "u32" },
  { name: "info", field: "info", offset: 8, kind: "pointer" },
] as const satisfies readonly AttrField[];

/** The fields of the verifier's log and of tokens are left out: mapledger has neither. */
export const BTF_FIELDS = [
  { name: "btf", field: "btf", offset: 0, kind: "pointer" },
  { name: "btf_size", field: "btfSize", offset: 16, kind: "u32" },
] as const satisfies readonly AttrField[];

interface CommandAttr {
  readonly fields: readonly AttrField[];
  /** BPF_*_LAST_FIELD, kernel/bpf/syscall.c: the end of the last field that the command uses. The bytes after it must be zero. */
  readonly end: number;
}

/** Each command's part of union bpf_attr. */
export const COMMAND_ATTR: Readonly<Record<MapCmdName, CommandAttr>> = {
  BPF_MAP_CREATE: { fields: CREATE_FIELDS, end: 92 },
  BPF_MAP_LOOKUP_ELEM: { fields: ELEMENT_FIELDS, end: 32 },
  BPF_MAP_UPDATE_ELEM: { fields: ELEMENT_FIELDS, end: 32 },
  BPF_MAP_DELETE_ELEM: { fields: ELEMENT_FIELDS, end: 16 },
  BPF_MAP_GET_NEXT_KEY: { fields: ELEMENT_FIELDS, end: 24 },
  BPF_OBJ_PIN: { fields: PATH_FIELDS, end: 20 },
  BPF_OBJ_GET: { fields: PATH_FIELDS, end: 20 },
  BPF_MAP_GET_NEXT_ID: { fields: ID_FIELDS, end: 8 },
  BPF_MAP_GET_FD_BY_ID: { fields: ID_FIELDS, end: 12 },
  BPF_OBJ_GET_INFO_BY_FD: { fields: INFO_FIELDS, end: 16 },
  BPF_BTF_LOAD: { fields: BTF_FIELDS, end: 40 },
  BPF_BTF_GET_FD_BY_ID: { fields: BTF_ID_FIELDS, end: 16 },
  BPF_BTF_GET_NEXT_ID: { fields: BTF_ID_FIELDS, end: 8 },
  BPF_MAP_LOOKUP_AND_DELETE_ELEM: { fields: ELEMENT_FIELDS, end: 32 },
  BPF_MAP_FREEZE: { fields: ELEMENT_FIELDS, end: 4 },
  BPF_MAP_LOOKUP_BATCH: { fields: BATCH_FIELDS, end: 56 },
  BPF_MAP_LOOKUP_AND_DELETE_BATCH: { fields: BATCH_FIELDS, end: 56 },
  BPF_MAP_UPDATE_BATCH: { fields: BATCH_FIELDS, end: 56 },
  BPF_MAP_DELETE_BATCH: { fields: BATCH_FIELDS, end: 56 },
};

/**
 * sizeof(union bpf_attr), and the largest attr that bpf(2) reads. Bytes from 168 to 4095 must be zero, else E2BIG, as
 * for a longer attr.
 */
export const BPF_ATTR_BYTES = 168;
export const BPF_ATTR_BYTES_MAX = 4096;

/** The end of a command's part of union bpf_attr; for a command that is not about maps, the end of the union. */
export function attrEnd(cmd: string): number {
  return Object.hasOwn(COMMAND_ATTR, cmd) ? COMMAND_ATTR[cmd as MapCmdName].end : BPF_ATTR_BYTES;
}

type FieldType<Kind extends FieldKind> = Kind extends "u64"
  ? bigint
  : Kind extends "char16"
    ? Buffer
    : Kind extends "pointer"
      ? Buffer | null
      : Kind extends "path"
        ? string | null
        : number;

/** The values of these fields, as read from an attr. null: the null pointer. */
export type AttrOf<Fields extends readonly AttrField[]> = {
  readonly [Each in Fields[number] as Each["field"]]: FieldType<Each["kind"]>;
};

/** Names of fields, as <linux/bpf.h> has them. */
export function fieldNames(fields: readonly AttrField[]): readonly string[] {
  return fields.map(({ name }) => name);
}

/** Builds an attr, field by field. */
export function readAttr<const Fields extends readonly AttrField[]>(
  fields: Fields,
  read: (field: Fields[number]) => unknown,
): AttrOf<Fields> {
  return Object.fromEntries(fields.map((field) => [field.field, read(field)])) as AttrOf<Fields>;
}

/** The fields of an attr by the names of <linux/bpf.h>, each with the value that `say` returns for it. */
export function namedAttr<const Fields extends readonly AttrField[]>(
  fields: Fields,
  attr: AttrOf<Fields>,
  say: (kind: FieldKind, value: unknown) => unknown,
): Record<string, unknown> {
  const values = attr as Readonly<Record<string, unknown>>;
  return Object.fromEntries(fields.map(({ name, field, kind }) => [name, say(kind, values[field])]));
}
