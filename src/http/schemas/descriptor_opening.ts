/** The schema of the body that opens a descriptor. */

import type { Static } from "typebox";
import { ID_MAX } from "../../abi/limits.ts";
import { OPEN_KINDS } from "../../abi/service.ts";
import { CLOSED, oneOf } from "./fields.ts";
import { Type } from "./type.ts";

const PATH_LENGTH_MAX = 4095;
/** PID_MAX_LIMIT, include/linux/threads.h. */
const PID_MAX = 4_194_304;

const Constant = oneOf([Type.Integer({ minimum: 0, maximum: 2 ** 32 - 1 }), Type.String({ maxLength: 64 })], {
  $id: "Constant",
  description: "A number, or its name in <linux/bpf.h>.",
});

export const OpenDescriptorBody = Type.Object(
  {
    kind: Type.Enum(["dup", "map", ...OPEN_KINDS], { type: "string" }),
    fd: Type.Optional(Type.Integer({ minimum: 0, maximum: 2 ** 31 - 1, description: "For dup." })),
    map: Type.Optional(
      oneOf([Type.Integer({ minimum: 0, maximum: ID_MAX }), Type.String()], {
        $id: "MapReference",
        description: "For map: its id, name:NAME or pinned:PATH.",
      }),
    ),
    access: Type.Optional(
      Type.Enum(["rw", "r", "w"], {
        type: "string",
        description:
          "Not for dup. Left out: rw, or the access that the caller's scopes allow. Only maps can be opened with w.",
      }),
    ),
    path: Type.Optional(
      Type.String({ minLength: 1, maxLength: PATH_LENGTH_MAX, description: "For file, dir, cgroup: absolute." }),
    ),
    pid: Type.Optional(Type.Integer({ minimum: 1, maximum: PID_MAX, description: "For pidfd." })),
    id: Type.Optional(Type.Integer({ minimum: 1, maximum: ID_MAX, description: "For prog: the kernel's id." })),
    pinned: Type.Optional(
      Type.String({ minLength: 1, maxLength: PATH_LENGTH_MAX, description: "For prog: where it is pinned." }),
    ),
    reuseport: Type.Optional(Type.Boolean({ description: "For tcp and udp sockets: SO_REUSEPORT." })),
    prog_type: Type.Optional(Constant),
    expected_attach_type: Type.Optional(Constant),
  },
  {
    $id: "OpenDescriptorBody",
    ...CLOSED,
    description:
      "`prog_type` (enum bpf_prog_type) and `expected_attach_type` (enum bpf_attach_type) are for prog: the types of a new program.",
    examples: [{ kind: "map", map: "pinned:/sys/fs/bpf/counters", access: "r" }],
  },
);

export type OpenBody = Static<typeof OpenDescriptorBody>;
