/** Linux' error numbers. Source: include/uapi/asm-generic/errno*.h; ENOTSUPP from include/linux/errno.h. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EIO: 5,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EMFILE: 24,
  ENOSPC: 28,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOTEMPTY: 39,
  ELOOP: 40,
  EOVERFLOW: 75,
  EBADFD: 77,
  ENOTSOCK: 88,
  EOPNOTSUPP: 95,
  EAFNOSUPPORT: 97,
  EINPROGRESS: 115,
  /** The kernel's own: not in POSIX, and not EOPNOTSUPP. User space sees the number 524. */
  ENOTSUPP: 524,
} as const;

export type Errno = keyof typeof ERRNO;

const NAMES = new Map<number, Errno>(Object.entries(ERRNO).map(([name, number]) => [number, name as Errno]));

/**
 * The name of an error number. A number that is not in the table, which only a live kernel returns, reads "E<number>".
 */
export function errnoName(number: number): Errno {
  return NAMES.get(number) ?? (`E${number}` as Errno);
}
