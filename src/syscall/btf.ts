/** BTF by its id, and facts about it: kernel/bpf/syscall.c and btf.c. `open.ts` has BPF_BTF_LOAD. */

import { BPF_F, BTF_INFO, BTF_INFO_BYTES } from "../abi/bpf.ts";
import { ID_MAX } from "../abi/limits.ts";
import type { BtfFacts } from "../maps/object.ts";
import { type Refusal, refuse } from "../maps/refusal.ts";
import type { BtfFdByIdCommand, BtfNextIdCommand, Origin } from "./command.ts";
import { openAt } from "./descriptors.ts";
import type { FdRecord } from "./fd_table.ts";
import { checkCapability } from "./guards.ts";
import { done, failed, type Outcome } from "./outcome.ts";
import type { State } from "./state.ts";

/** bpf_obj_get_next_id(): the smallest id of BTF above start_id. */
export function getNextBtfId(state: State, command: Origin & BtfNextIdCommand): Outcome {
  const { startId, openFlags, fdByIdTokenFd } = command.attr;
  if (openFlags !== 0 || fdByIdTokenFd !== 0)
    return failed(
      refuse("EINVAL", "open_flags and fd_by_id_token_fd must be 0: the command does not use these fields"),
    );
  if (startId > ID_MAX) return failed(refuse("EINVAL", `start_id ${startId}: more than ${ID_MAX}, the largest id`));
  const refusal = checkCapability(state, command.session, "CAP_SYS_ADMIN", "walking ids");
  if (refusal !== null) return failed(refusal);
  const next = state.objects.btfAfter(startId);
  if (next === undefined) return failed(refuse("ENOENT", `no BTF has an id above ${startId}`));
  return done(0, null, { next_id: next });
}

/** bpf_btf_get_fd_by_id(). BPF_F_RDONLY and BPF_F_WRONLY are not allowed: descriptors of BTF have no mode. */
export function getBtfFdById(state: State, command: Origin & BtfFdByIdCommand): Outcome {
  const { btfId, openFlags, fdByIdTokenFd } = command.attr;
  if ((openFlags & ~BPF_F.BPF_F_TOKEN_FD) !== 0)
    return failed(refuse("EINVAL", `open_flags ${openFlags}: only BPF_F_TOKEN_FD is allowed for BTF`));
  const refusal =
    (openFlags === 0 ? null : checkToken(state, command.session, fdByIdTokenFd)) ??
    checkCapability(state, command.session, "CAP_SYS_ADMIN", "opening BTF by its id");
  if (refusal !== null) return failed(refusal);
  const object = state.objects.known({ kind: "btf", btfId, data: "" });
  if (object === undefined) return failed(refuse("ENOENT", `no BTF has id ${btfId}`));
  const outcome = openAt(state, command.session, btfFile(state, object.id));
  return outcome.errno === 0 ? { ...outcome, out: { object: object.id, btf_id: btfId } } : outcome;
}

export function redoGetBtfFdById(state: State, command: Origin & BtfFdByIdCommand, outcome: Outcome): void {
  if (outcome.errno === 0) state.openFd(command.session, outcome.ret, btfFile(state, outcome.out?.object as number));
}

/** The ledger has no tokens. */
function checkToken(state: State, session: number, fd: number): Refusal {
  return state.fd(session, fd) === undefined
    ? refuse("EBADF", `fd_by_id_token_fd ${fd} is not open`)
    : refuse("EINVAL", `fd_by_id_token_fd ${fd} is not a token`);
}

function btfFile(state: State, object: number): FdRecord {
  return { kind: "btf", file: state.lastId("file") + 1, map: 0, object, readable: true, writable: true };
}

/**
 * btf_get_info_by_fd(). Of the buffer, `btf` with `btf_size` and `name` with `name_len` are inputs: a pointer that is
 * not 0 asks for the bytes. BTF that was loaded has an empty name. `info`: the caller's buffer, of BTF_INFO_BYTES.
 */
export function btfInfo({ btfId, data }: BtfFacts, info: Buffer, length: number): Outcome {
  const bytes = data.length / 2;
  const copied = Math.min(info.readUInt32LE(BTF_INFO.btf_size), bytes);
  const wantsBtf = info.readBigUInt64LE(BTF_INFO.btf) !== 0n;
  if (copied > 0 && !wantsBtf)
    return failed(refuse("EFAULT", `info.btf is the null pointer: the command writes ${copied} bytes`));
  const wantsName = info.readBigUInt64LE(BTF_INFO.name) !== 0n;
  if (wantsName !== info.readUInt32LE(BTF_INFO.name_len) > 0)
    return failed(refuse("EINVAL", "info.name and info.name_len must come together"));
  info.writeUInt32LE(bytes, BTF_INFO.btf_size);
  info.writeUInt32LE(btfId, BTF_INFO.id);
  info.writeUInt32LE(0, BTF_INFO.name_len);
  info.writeUInt32LE(0, BTF_INFO.kernel_btf);
  const blob = wantsBtf ? Buffer.from(data.slice(0, 2 * copied), "hex") : null;
  const out = wantsName ? { info_len: length, name: "" } : { info_len: length };
  return done(0, info.subarray(0, Math.min(length, BTF_INFO_BYTES)), out, blob);
}
