/** Identifiers of C for the names in BTF. */

/** KSYM_NAME_LEN: the kernel refuses longer names of types and members. */
export const NAME_BYTES_MAX = 512;

/** Words that cannot be names, in C11 and in the dialects of GCC and clang. */
const RESERVED: readonly string[] = [
  ..."auto break case char const continue default do double else enum extern float for goto if inline int long".split(
    " ",
  ),
  ..."register restrict return short signed sizeof static struct switch typedef typeof union unsigned void".split(" "),
  ..."volatile while asm _Alignas _Alignof _Atomic _Bool _Complex _Generic _Imaginary _Noreturn _Nullable".split(" "),
  ..."_Nonnull _Static_assert _Thread_local _Accum _Fract _Sat _BitInt _Decimal32 _Decimal64 _Decimal128".split(" "),
  ..."_Float16 _Float32 _Float64 _Float128 _Float32x _Float64x __float128 __float80 __fp16 __bf16 __ibm128".split(" "),
  ..."__int128 __int128_t __uint128_t __auto_type __builtin_va_list __func__ __FUNCTION__ __label__".split(" "),
  ..."__PRETTY_FUNCTION__ __alignof __alignof__ __asm __asm__ __attribute __attribute__ __complex__ __const".split(" "),
  ..."__const__ __extension__ __imag__ __inline __inline__ __null __real__ __restrict __restrict__ __signed".split(" "),
  ..."__signed__ __thread __typeof __typeof__ __volatile __volatile__ linux unix i386".split(" "),
];

/** A text as an identifier: each other character becomes "_". */
function identifier(text: string): string {
  const word = text.replace(/[^A-Za-z0-9_]/g, "_");
  return /^[0-9]/.test(word) || word === "" ? `_${word}` : word;
}

/**
 * Names of one name space. A name that is taken gets a suffix, `___2`, `___3`, ...; libbpf ignores such a suffix if it
 * looks for the type in a kernel.
 */
export class Identifiers {
  /** The last number that was tried as a suffix. */
  readonly #taken = new Map<string, number>(RESERVED.map((word) => [word, 1]));

  take(text: string): string {
    const name = identifier(text);
    const last = this.#taken.get(name);
    if (last === undefined) {
      this.#taken.set(name, 1);
      return name;
    }
    let number = last + 1;
    while (this.#taken.has(`${name}___${number}`)) number++;
    this.#taken.set(name, number);
    this.#taken.set(`${name}___${number}`, 1);
    return `${name}___${number}`;
  }

  has(text: string): boolean {
    return this.#taken.has(text);
  }
}

/** A text as a string literal of C, without characters that could end it. */
export function literal(text: string): string {
  const inside = text.replace(/[^A-Za-z0-9_ .:;,/()<>[\]{}=+*&|^!~@#$%'-]/g, (character) => {
    return `\\${character.charCodeAt(0).toString(8).padStart(3, "0")}`;
  });
  return `"${inside}"`;
}

const WORDS: ReadonlySet<string> = new Set(["unsigned", "signed", "char", "short", "int", "long", "__int128"]);
const BYTES: Readonly<Record<string, number>> = {
  char: 1,
  short: 2,
  int: 4,
  long: 8,
  "long long": 8,
  __int128: 16,
};

/**
 * The name of an integer if it is one of C's own for this size and sign on machines whose long has 64 bits; null: it is
 * not. For example "long unsigned int" and "unsigned long", but not "u64".
 */
export function integerWords(name: string, bytes: number, isSigned: boolean): string | null {
  if (name === "_Bool" || name === "bool") return bytes === 1 ? "_Bool" : null;
  const words = name.split(" ").filter((word) => word !== "");
  if (words.length === 0 || words.length > 4 || !words.every((word) => WORDS.has(word))) return null;
  const signs = words.filter((word) => word === "unsigned" || word === "signed");
  const size = words.filter((word) => word !== "unsigned" && word !== "signed");
  const rest = size.length > 1 ? size.filter((word) => word !== "int") : size;
  if (signs.length > 1 || size.length - rest.length > 1) return null;
  const width = rest.join(" ") || "int";
  if (BYTES[width] !== bytes || (width !== size.join(" ") && (width === "char" || width === "__int128"))) return null;
  // A plain char is signed on some machines only, and BTF of any of them has no sign for it.
  if (width !== "char" || signs.length > 0) if ((signs[0] === "unsigned") === isSigned) return null;
  return words.join(" ");
}

/** An integer type of C by its size; undefined: there is none. */
export function integerOf(bytes: number, isSigned: boolean): string | undefined {
  const name = { 1: "char", 2: "short", 4: "int", 8: "long long", 16: "__int128" }[bytes];
  return name === undefined ? undefined : `${isSigned ? "signed" : "unsigned"} ${name}`;
}
