/** KSYM_NAME_LEN, include/linux/kallsyms.h. */
const NAME_BYTES_MAX = 512;
const DIGIT = 1;
const LETTER = 2;
const PRINTED = 4;

/** The kernel's isalpha(), isdigit() and isprint() are those of Latin-1; BTF counts "_" and "." as letters. */
const CLASSES = Uint8Array.from({ length: 256 }, (_, byte) => {
  if (byte >= 0x30 && byte <= 0x39) return DIGIT | PRINTED;
  const latin = byte >= 0xc0 && byte !== 0xd7 && byte !== 0xf7;
  const lower = byte | 0x20;
  const ascii = (lower >= 0x61 && lower <= 0x7a) || byte === 0x5f || byte === 0x2e;
  if (latin || ascii) return LETTER | PRINTED;
  return (byte >= 0x20 && byte <= 0x7e) || byte >= 0xa0 ? PRINTED : 0;
});

/**
 * Bits for an offset: the bytes up to the next NUL are all letters and digits (WORD), or all printable (TEXT), and are
 * not more than KSYM_NAME_LEN.
 */
const WORD = 1;
const TEXT = 2;

/**
 * Answers which names of a string section are valid. A name may begin at every byte of it, and many names may share
 * their end, so the section is read once, from its end.
 */
export class Names {
  readonly #strings: Buffer;
  /** WORD and TEXT for each offset of the section. */
  readonly #from: Uint8Array;

  /** `strings` must end with NUL. */
  constructor(strings: Buffer) {
    this.#strings = strings;
    this.#from = new Uint8Array(strings.length);
    let [length, known] = [0, WORD | TEXT];
    for (let at = strings.length - 1; at >= 0; at--) {
      const byte = strings[at] as number;
      if (byte === 0) [length, known] = [0, WORD | TEXT];
      else {
        length++;
        const is = CLASSES[byte] as number;
        if ((is & (LETTER | DIGIT)) === 0) known &= ~WORD;
        if ((is & PRINTED) === 0) known &= ~TEXT;
      }
      this.#from[at] = length <= NAME_BYTES_MAX ? known : 0;
    }
  }

  /** btf_name_offset_valid() */
  has(offset: number): boolean {
    return offset < this.#strings.length;
  }

  isEmpty(offset: number): boolean {
    return this.#strings[offset] === 0;
  }

  /** btf_name_valid_identifier(): an identifier of C that may also have "." and the letters of Latin-1. */
  isIdentifier(offset: number): boolean {
    const first = CLASSES[this.#strings[offset] as number] as number;
    return (first & LETTER) !== 0 && ((this.#from[offset] as number) & WORD) !== 0;
  }

  /** btf_name_valid_section() */
  isSection(offset: number): boolean {
    return !this.isEmpty(offset) && ((this.#from[offset] as number) & TEXT) !== 0;
  }
}
