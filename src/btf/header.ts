/**
 * struct btf_header, <linux/btf.h>, little-endian. Offsets of the two sections count from the header's end:
 *
 *   0 u16 magic  2 u8 version  3 u8 flags  4 u32 hdr_len
 *   8 u32 type_off  12 u32 type_len  16 u32 str_off  20 u32 str_len
 */

import { isRefusal, type Refusal, refuse } from "../maps/refusal.ts";

const MAGIC = 0xeb9f;
const VERSION = 1;
const HEADER_BYTES = 24;
/** The bytes up to and including hdr_len, which says how long the header is. */
const LENGTH_BYTES = 8;

export interface Header {
  readonly headerBytes: number;
  readonly typeOff: number;
  readonly typeLen: number;
  readonly strOff: number;
  readonly strLen: number;
}

/**
 * Reads a header. EINVAL if the bytes are not a header, ENOTSUPP if its version or flags are unknown. Fields that a short
 * header does not have are 0.
 */
export function readHeader(blob: Buffer): Header | Refusal {
  if (blob.length < LENGTH_BYTES)
    return refuse("EINVAL", `BTF has ${blob.length} bytes: its header takes ${HEADER_BYTES}`);
  const headerBytes = blob.readUInt32LE(4);
  const header = Buffer.alloc(HEADER_BYTES);
  blob.copy(header, 0, 0, Math.min(headerBytes, HEADER_BYTES, blob.length));
  if (header.readUInt16LE(0) !== MAGIC) return refuse("EINVAL", "BTF does not begin with its magic");
  if (header[2] !== VERSION) return refuse("ENOTSUPP", `BTF of version ${header[2]}: ${VERSION} is known`);
  if (header[3] !== 0) return refuse("ENOTSUPP", "BTF has flags: none are known");
  return {
    headerBytes,
    typeOff: header.readUInt32LE(8),
    typeLen: header.readUInt32LE(12),
    strOff: header.readUInt32LE(16),
    strLen: header.readUInt32LE(20),
  };
}

/** A header of blobs whose strings follow their types. */
export function headerOf(typeLen: number, strLen: number): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt16LE(MAGIC, 0);
  header[2] = VERSION;
  header.writeUInt32LE(HEADER_BYTES, 4);
  header.writeUInt32LE(typeLen, 12);
  header.writeUInt32LE(typeLen, 16);
  header.writeUInt32LE(strLen, 20);
  return header;
}

/**
 * btf_parse_hdr() and btf_parse_str_sec(): after the header come the types, then the strings, and nothing else. E2BIG
 * if a longer header has bytes other than 0 after the known fields.
 */
export function checkHeader(blob: Buffer): Header | Refusal {
  if (blob.length >= LENGTH_BYTES) {
    const headerBytes = blob.readUInt32LE(4);
    if (headerBytes > blob.length)
      return refuse("EINVAL", `BTF has ${blob.length} bytes: its header takes ${headerBytes}`);
    if (blob.subarray(HEADER_BYTES, headerBytes).some((byte) => byte !== 0))
      return refuse("E2BIG", `BTF's header has ${headerBytes} bytes: those after byte ${HEADER_BYTES} must be 0`);
  }
  const header = readHeader(blob);
  if (isRefusal(header)) return header;
  const { headerBytes, typeOff, typeLen, strOff, strLen } = header;
  if (typeOff !== 0 || strOff !== typeLen || headerBytes + typeLen + strLen !== blob.length || typeLen === 0)
    return refuse("EINVAL", "BTF's sections do not make up the whole of it: types, then strings");
  if (strLen === 0 || blob[headerBytes + strOff] !== 0 || blob[blob.length - 1] !== 0)
    return refuse("EINVAL", "BTF's strings do not begin and end with NUL");
  return header;
}
