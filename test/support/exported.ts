/** An event as a line of an export has it, but for its seq and cmd. */
export const EXPORTED_EVENT = {
  time: "2026-11-23T20:00:00.000000Z",
  session: 1,
  caller: "a",
  map: 1,
  fd: 3,
  key: null,
  value: null,
  flags: 0,
  ret: 0,
  errno: null,
  detail: null,
  attr: null,
  out: null,
};

/** The attr of a BPF_MAP_CREATE in such a line, but for the map's type and sizes. */
export const EXPORTED_CREATE = {
  map_flags: 0,
  inner_map_fd: 0,
  numa_node: 0,
  map_name: "m",
  map_ifindex: 0,
  btf_fd: 0,
  btf_key_type_id: 0,
  btf_value_type_id: 0,
  btf_vmlinux_value_type_id: 0,
  map_extra: "0",
  value_type_btf_obj_fd: 0,
  map_token_fd: 0,
  excl_prog_hash: null,
  excl_prog_hash_size: 0,
};
